from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from fpnas.config import CfgNode
from fpnas.data import (
    DATASET_REGISTRY,
    ImageSet,
    TensorImages,
    TrainLoader,
    build_dataset,
    describe,
    find_splits,
)
from fpnas.errors import ConfigError, DataError, UnknownNameError


@pytest.fixture
def register() -> Iterator[callable]:
    """Register data sets for one test only."""
    added = []

    def add(name: str, function: callable) -> None:
        DATASET_REGISTRY.register(function, name=name)
        added.append(name)

    yield add
    for name in added:
        del DATASET_REGISTRY._obj_map[name]


class Stripes(ImageSet):
    """A source of one's own that makes its images up."""

    def image(self, index: int) -> torch.Tensor:
        return torch.full((3, 12, 12), index, dtype=torch.uint8)


def test_a_data_set_of_ones_own(cfg: CfgNode, register) -> None:
    register("stripes", lambda cfg, split: Stripes(torch.arange(8) % 2, ("even", "odd")))
    cfg.DATA.NAME = "stripes"
    images = build_dataset(cfg, "train")
    assert images.in_memory
    assert images.images[:, 0, 0, 0].tolist() == list(range(8))
    batch, labels = next(TrainLoader(images, cfg, batch_size=4, seed=0).iterate())
    assert batch.shape == (4, 3, 12, 12) and labels.shape == (4,)


def test_unknown_name_lists_the_known(cfg: CfgNode) -> None:
    cfg.DATA.NAME = "fashion_mnist_min"
    with pytest.raises(UnknownNameError, match="Did you mean 'fashion_mnist_mini'"):
        build_dataset(cfg, "train")


def test_contract_is_documented() -> None:
    assert "@DATASET_REGISTRY.register" in DATASET_REGISTRY.__doc__


def test_wrong_return_value_of_a_data_set(cfg: CfgNode, register) -> None:
    register("tuple", lambda cfg, split: ([], []))
    cfg.DATA.NAME = "tuple"
    with pytest.raises(DataError, match="'tuple' returned a tuple; it must return an"):
        build_dataset(cfg, "train")


def test_empty_data_set(cfg: CfgNode, register) -> None:
    register("nothing", lambda cfg, split: Stripes([], ("a",)))
    cfg.DATA.NAME = "nothing"
    with pytest.raises(DataError, match="'nothing' has no images in its split 'test'"):
        build_dataset(cfg, "test")


def test_random_classes_before_decoding(two_classes: CfgNode, tmp_path) -> None:
    two_classes.DATA.NUM_RANDOM_CLASSES = 1
    train, test = build_dataset(two_classes, "train"), build_dataset(two_classes, "test")
    assert train.classes == test.classes and len(train.classes) == 1
    assert len(train) == {"cat": 7, "dog": 6}[train.classes[0]]
    # Files of the class that was not chosen are not even opened.
    other = {"cat": "dog", "dog": "cat"}[train.classes[0]]
    (tmp_path / f"train/{other}/0.png").write_bytes(b"damaged")
    assert isinstance(build_dataset(two_classes, "train").images, torch.Tensor)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("CACHE", "allways", "DATA.CACHE is 'allways'.*Did you mean 'always'"),
        ("INTERPOLATION", "nearest", "DATA.INTERPOLATION is 'nearest'; valid: 'bilinear', 'bicub"),
        ("INPUT_SIZE", 0, "DATA.INPUT_SIZE is 0; valid: at least 1"),
        ("CROP_RATIO", 1.5, "DATA.CROP_RATIO is 1.5"),
        ("HOLD_OUT", 1.0, "DATA.HOLD_OUT is 1.0"),
        ("NUM_WORKERS", -1, "DATA.NUM_WORKERS is -1"),
        ("NUM_RANDOM_CLASSES", -1, "DATA.NUM_RANDOM_CLASSES is -1"),
        ("CACHE_LIMIT", -1, "DATA.CACHE_LIMIT is -1"),
        ("MEAN", (0.5, 0.5), "DATA.MEAN is .*; valid: 3 numbers"),
        ("MEAN", (0.5, 0.5, "x"), "DATA.MEAN is .*; valid: 3 numbers"),
        ("STD", (0.2, 0.0, 0.2), "DATA.STD is .*; valid: 3 numbers above 0"),
        ("AUGMENT.CROP", "padded", "DATA.AUGMENT.CROP is 'padded'; valid: 'resized', 'pad', 'no"),
        ("AUGMENT.POLICY", "randaug", "Did you mean 'randaugment'"),
        ("AUGMENT.PAD", -1, "DATA.AUGMENT.PAD is -1"),
        ("AUGMENT.HFLIP", 1.5, "DATA.AUGMENT.HFLIP is 1.5; valid: 0 to 1"),
        ("AUGMENT.ERASE", -0.1, "DATA.AUGMENT.ERASE is -0.1"),
        ("AUGMENT.SCALE", (0.5, 0.1), "DATA.AUGMENT.SCALE is .*0 < low <= high"),
    ],
)
def test_values_of_no_use_are_named(cfg: CfgNode, key: str, value: object, message: str) -> None:
    node = cfg.DATA
    *parents, leaf = key.split(".")
    for parent in parents:
        node = node[parent]
    node[leaf] = value
    with pytest.raises(ConfigError, match=message):
        build_dataset(cfg, "train")


def test_tensor_images_ignore_the_cache_mode(cfg: CfgNode, register) -> None:
    images = TensorImages(torch.zeros(4, 12, 12, dtype=torch.uint8), [0, 0, 1, 1], ("a", "b"))
    register("tensors", lambda cfg, split: images)
    cfg.DATA.NAME, cfg.DATA.CACHE = "tensors", "never"
    assert build_dataset(cfg, "train") is images


def test_one_class_is_nothing_to_tell_apart(cfg: CfgNode, register) -> None:
    register("even", lambda cfg, split: Stripes([0, 0], ["even"]))
    cfg.DATA.NAME = "even"
    with pytest.raises(DataError, match=r"'even' has one class, even; .* at least two"):
        find_splits(cfg)


def test_splits_of_different_classes(cfg: CfgNode, register) -> None:
    register("other", lambda cfg, split: Stripes([0, 1], ["even", f"{split} odd"]))
    cfg.DATA.NAME = "other"
    with pytest.raises(ConfigError, match=r"training images of 'other' have 2 classes.*or others"):
        find_splits(cfg)


def test_a_data_set_is_described_for_the_log(cfg: CfgNode, register) -> None:
    register("stripes", lambda cfg, split: Stripes(torch.arange(1200) % 2, ("even", "odd")))
    cfg.DATA.NAME = "stripes"
    cfg.DATA.ROOT = "here"
    train, test = find_splits(cfg)
    described = describe(cfg, training=train, test=test)
    assert described == "stripes here: 2 classes, 1,200 training and 1,200 test images"
