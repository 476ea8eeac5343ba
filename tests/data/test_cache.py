from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from fpnas.config import CfgNode
from fpnas.data import build_dataset, preprocessing
from fpnas.errors import ConfigError, DataError


@pytest.mark.parametrize("mode", ["auto", "always"])
def test_images_of_one_size_are_cached_unchanged(two_classes: CfgNode, mode: str) -> None:
    two_classes.DATA.CACHE = "never"
    streamed = build_dataset(two_classes, "train")
    assert not streamed.in_memory and streamed.images is None
    two_classes.DATA.CACHE = mode
    cached = build_dataset(two_classes, "train")
    assert cached.in_memory
    assert torch.equal(cached.labels, streamed.labels)
    for index in range(len(streamed)):
        assert torch.equal(cached.image(index), streamed.image(index))
        assert cached.name(index) == streamed.name(index)


def test_auto_streams_images_of_unequal_size(two_classes: CfgNode, make_folder, caplog) -> None:
    make_folder("train/dog", 1, size=(9, 14))
    with caplog.at_level(logging.INFO):
        assert not build_dataset(two_classes, "train").in_memory
    assert "sizes differ (the first has 12 x 12 px" in caplog.text
    assert "dog/0.png has 9 x 14" in caplog.text


def test_auto_streams_what_exceeds_the_limit(two_classes: CfgNode, caplog) -> None:
    two_classes.DATA.CACHE_LIMIT = 0
    with caplog.at_level(logging.INFO):
        assert not build_dataset(two_classes, "train").in_memory
    assert "13 images are read from disk as they are needed" in caplog.text


def test_always_brings_unequal_images_to_one_size(two_classes: CfgNode, make_folder) -> None:
    make_folder("train/dog", 1, size=(9, 14))
    two_classes.DATA.CACHE = "never"
    two_classes.DATA.CROP_RATIO = 0.75
    streamed = build_dataset(two_classes, "train")
    two_classes.DATA.CACHE = "always"
    cached = build_dataset(two_classes, "train")
    assert cached.images.shape == (13, 3, 16, 16)
    # The cached square is what evaluation would cut out anyway.
    evaluate = preprocessing(two_classes)
    assert torch.equal(evaluate(cached.image(7)), evaluate(streamed.image(7)))


def test_always_beyond_the_limit(two_classes: CfgNode) -> None:
    two_classes.DATA.CACHE, two_classes.DATA.CACHE_LIMIT = "always", 0
    with pytest.raises(ConfigError, match=r"CACHE is 'always', but 13 images of 14 x 14 px need"):
        build_dataset(two_classes, "train")


@pytest.mark.parametrize("mode", ["auto", "always"])
def test_corrupt_image_is_named(two_classes: CfgNode, tmp_path: Path, mode: str) -> None:
    two_classes.DATA.CACHE = mode
    (tmp_path / "train/dog/3.png").write_bytes(b"damaged")
    expected = r"train/dog/3\.png is no readable image: .*[^.]\. DATA\.SKIP_CORRUPT True leaves"
    with pytest.raises(DataError, match=expected):
        build_dataset(two_classes, "train")


@pytest.mark.parametrize("corrupt", [["cat/0", "dog/3"], ["cat/6"]])
def test_skip_corrupt_leaves_out_and_counts(
    two_classes: CfgNode, tmp_path: Path, caplog, corrupt: list[str]
) -> None:
    whole = build_dataset(two_classes, "train")
    for name in corrupt:
        (tmp_path / f"train/{name}.png").write_bytes(b"damaged")
    two_classes.DATA.SKIP_CORRUPT = True
    images = build_dataset(two_classes, "train")
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert f"{len(corrupt)} of 13 images are unreadable and left out" in warnings[0]
    assert f"train/{corrupt[0]}.png" in warnings[0]
    lost = [f"{tmp_path}/train/{name}.png" for name in corrupt]
    kept = [index for index in range(13) if whole.name(index) not in lost]
    assert [images.name(index) for index in range(len(images))] == [whole.name(i) for i in kept]
    assert torch.equal(images.images, whole.images[kept])
    assert torch.equal(images.labels, whole.labels[kept])


def test_no_readable_image_at_all(two_classes: CfgNode, tmp_path: Path) -> None:
    two_classes.DATA.SKIP_CORRUPT = True
    for file in (tmp_path / "val").rglob("*.png"):
        file.write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"None of 5 images is readable, .*val/cat/0\.png"):
        build_dataset(two_classes, "test")
