from __future__ import annotations

import logging
from pathlib import Path

import pytest

from fpnas.config import CfgNode
from fpnas.data.image_folder import image_folder
from fpnas.errors import DataError


def names(cfg: CfgNode, split: str) -> list[str]:
    images = image_folder(cfg, split)
    return [
        Path(images.name(index)).relative_to(cfg.DATA.ROOT).as_posix()
        for index in range(len(images))
    ]


def test_classes_and_labels(two_classes: CfgNode) -> None:
    train, val = image_folder(two_classes, "train"), image_folder(two_classes, "test")
    assert train.classes == val.classes == ("cat", "dog")
    assert train.labels.tolist() == [0] * 7 + [1] * 6
    assert names(two_classes, "test") == [
        *(f"val/cat/{index}.png" for index in range(3)),
        *(f"val/dog/{index}.png" for index in range(2)),
    ]


def test_nested_files_count_and_others_do_not(two_classes: CfgNode, make_folder, tmp_path) -> None:
    make_folder("val/cat/2024/spring", 1)
    make_folder("val/cat/.thumbnails", 1)
    (tmp_path / "val/cat/notes.txt").write_text("no image")
    (tmp_path / "val/cat/._0.png").write_bytes(b"no image either")
    (tmp_path / "val/.cache").mkdir()
    assert names(two_classes, "test") == [
        *(f"val/cat/{index}.png" for index in range(3)),
        "val/cat/2024/spring/0.png",
        *(f"val/dog/{index}.png" for index in range(2)),
    ]


def test_files_that_could_be_images_are_counted_by_ending(
    two_classes: CfgNode, tmp_path: Path, caplog
) -> None:
    (tmp_path / "val/cat/0.png").rename(tmp_path / "val/cat/0.JFIF")  # a JPEG by another name
    for name in ("cat/a.heic", "dog/b.HEIC", "dog/c.avif", "cat/Thumbs.db", "dog/.d.heic"):
        (tmp_path / "val" / name).touch()
    assert names(two_classes, "test")[0] == "val/cat/0.JFIF"
    [warning] = [record.message for record in caplog.records]
    assert f"{tmp_path / 'val'} that are not read: 1 .avif, 2 .heic. If they are" in warning


def test_link_to_a_parent_folder_ends(two_classes: CfgNode, tmp_path: Path) -> None:
    (tmp_path / "val/cat/all").symlink_to(tmp_path / "val/cat", target_is_directory=True)
    assert len(image_folder(two_classes, "test")) == 5


def test_test_folder_stands_in_for_val(two_classes: CfgNode, tmp_path: Path) -> None:
    (tmp_path / "val").rename(tmp_path / "test")
    assert names(two_classes, "test")[0] == "test/cat/0.png"


def test_val_goes_before_test(two_classes: CfgNode, make_folder, caplog) -> None:
    make_folder("test/cat", 1)
    make_folder("test/dog", 1)
    with caplog.at_level(logging.INFO):
        assert len(image_folder(two_classes, "test")) == 5
    assert "val is used for evaluation" in caplog.text


def test_hold_out_is_stratified_and_logged(cfg: CfgNode, make_folder, tmp_path, caplog) -> None:
    cfg.DATA.ROOT, cfg.DATA.HOLD_OUT = str(tmp_path), 0.25
    make_folder("train/cat", 8)
    make_folder("train/dog", 4)
    with caplog.at_level(logging.INFO):
        held_out = image_folder(cfg, "test")
    assert held_out.labels.tolist() == [0, 0, 1]
    assert "3 of its 12 images are held out for evaluation (DATA.HOLD_OUT 0.25)" in caplog.text
    train, test = names(cfg, "train"), names(cfg, "test")
    assert len(train) == 9 and len(set(train + test)) == 12
    cfg.SEED = 1
    assert names(cfg, "test") != test


def test_too_few_images_to_hold_out(cfg: CfgNode, make_folder, tmp_path: Path) -> None:
    cfg.DATA.ROOT = str(tmp_path)
    make_folder("train/cat", 2)
    with pytest.raises(DataError, match=r"train \(DATA.HOLD_OUT\): 2 images cannot be split"):
        image_folder(cfg, "train")


def test_root_must_be_a_folder(cfg: CfgNode, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"DATA\.ROOT is empty; the data set 'image_folder' needs"):
        image_folder(cfg, "train")
    cfg.DATA.ROOT = str(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"nowhere \(DATA.ROOT\) does not exist"):
        image_folder(cfg, "train")
    (tmp_path / "file").touch()
    cfg.DATA.ROOT = str(tmp_path / "file")
    with pytest.raises(DataError, match=r"file \(DATA.ROOT\) is a file, not a folder"):
        image_folder(cfg, "train")


def test_root_without_train(cfg: CfgNode, make_folder, tmp_path: Path) -> None:
    cfg.DATA.ROOT = str(tmp_path)
    with pytest.raises(DataError, match="no folder train; found no folders"):
        image_folder(cfg, "train")
    make_folder("cat", 1)
    with pytest.raises(DataError, match=r"no folder train; found cat\. Expected ROOT/train/CLASS"):
        image_folder(cfg, "train")


def test_train_without_classes(cfg: CfgNode, make_folder, tmp_path: Path) -> None:
    cfg.DATA.ROOT = str(tmp_path)
    make_folder("train", 3)
    with pytest.raises(DataError, match="train has no class folders"):
        image_folder(cfg, "train")


def test_class_without_images(two_classes: CfgNode, tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / split / "eel").mkdir()
    (tmp_path / "train/eel/readme.md").touch()
    with pytest.raises(DataError, match=r"class folder .*train/eel has no images.*\.jpg"):
        image_folder(two_classes, "train")


@pytest.mark.parametrize("split", ["train", "test"])
def test_classes_must_agree(two_classes: CfgNode, make_folder, tmp_path, split: str) -> None:
    (tmp_path / "val/dog").rename(tmp_path / "val/dogs")
    with pytest.raises(DataError, match=r"1 missing there \(dog\) and 1 only there \(dogs\)"):
        image_folder(two_classes, split)
