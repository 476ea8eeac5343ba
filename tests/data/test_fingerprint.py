"""Fingerprints of images: what changes them, and what does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.io import write_png

from fpnas.config import get_cfg
from fpnas.data import ImageFiles, ImageSet, TensorImages, find_dataset, fingerprint
from fpnas.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / "data" / "train" / name).mkdir(parents=True)
        for index in range(4):
            image = torch.full((3, 6, 6), 20 * index, dtype=torch.uint8)
            write_png(image, str(tmp_path / "data" / "train" / name / f"{index}.png"))
    return tmp_path / "data"


def of_folder(root: Path, **keys: object):
    cfg = get_cfg()
    cfg.DATA.NAME, cfg.DATA.ROOT, cfg.DATA.HOLD_OUT = "image_folder", str(root), 0.25
    cfg.DATA.NUM_RANDOM_CLASSES = keys.get("classes", 0)
    return fingerprint(
        str(root), **{split: find_dataset(cfg, split) for split in ("train", "test")}
    )


def test_a_folder_that_was_moved_has_the_same(root, tmp_path):
    before = of_folder(root)
    shutil.move(root, tmp_path / "elsewhere")
    after = of_folder(tmp_path / "elsewhere")
    assert after.summary() == before.summary()
    assert [split["images"] for split in after.summary()["splits"].values()] == [6, 2]
    assert set(after.splits["test"].lines()) <= {
        f"train/{c}/{i}.png" for c in ("cat", "dog") for i in range(4)
    }
    assert of_folder(tmp_path / "elsewhere", classes=1).summary() != before.summary()


def test_changes_of_files_are_named(root, tmp_path):
    before, file = of_folder(root), tmp_path / "lines"
    before.write(file)
    assert before.differences(before.summary(), file) == []
    with (root / "train" / "cat" / "0.png").open("ab") as image:
        image.write(b"x")
    [found] = of_folder(root).differences(before.summary(), file)
    assert found.endswith(" now (changed: train/cat/0.png)")
    for damaged in (b"", b"no gzip", file.read_bytes()[:40]):
        file.write_bytes(damaged)
        [found] = of_folder(root).differences(before.summary(), file)
        assert found.endswith(" now")


def test_a_file_that_goes_meanwhile(root):
    images = ImageFiles([str(root / "none.png")], [0], ["cat"])
    with pytest.raises(DataError, match=r"none\.png' cannot be read"):
        fingerprint(str(root), train=images)


@pytest.mark.parametrize("change", ["pixel", "label", "order"])
def test_images_in_memory_are_hashed(change):
    pixels, labels = torch.arange(8 * 3, dtype=torch.uint8).view(8, 1, 3, 1), torch.arange(8) % 2
    images = TensorImages(pixels.clone(), labels.clone(), ["a", "b"])
    first = fingerprint("", train=images)
    assert fingerprint("", train=images.subset(torch.arange(8))).summary() == first.summary()
    if change == "pixel":
        images = TensorImages(pixels ^ (pixels == 23), labels, ["a", "b"])
    elif change == "label":
        images = TensorImages(pixels, 1 - labels, ["a", "b"])
    else:
        images = images.subset(torch.arange(8).flip(0))
    [found] = fingerprint("", train=images).differences(first.summary(), Path("none"))
    assert found.startswith("train images: 8 then, 8 now")


class Named(ImageSet):
    """Somebody's own."""

    def image(self, index: int) -> Tensor:
        raise AssertionError("An image was decoded.")

    def name(self, index: int) -> str:
        return f"record {index}"


def test_a_data_set_of_one_s_own_has_names_and_labels(tmp_path):
    before = fingerprint("", train=Named([0, 1, 0], ["a", "b"]))
    before.write(tmp_path / "lines")
    [found] = fingerprint("", train=Named([0, 0], ["a", "b"])).differences(
        before.summary(), tmp_path / "lines"
    )
    assert found == "train images: 3 then, 2 now (missing: record 2; changed: record 1)"
