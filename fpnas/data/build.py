"""DATASET_REGISTRY and build_dataset, the way from the config to an ImageSet."""

from __future__ import annotations

from collections.abc import Sequence

from fpnas.config import CfgNode
from fpnas.config.checks import check_name, check_value
from fpnas.data.cache import cache_images
from fpnas.data.choose import choose_classes
from fpnas.data.fashion_mnist import fashion_mnist, fashion_mnist_mini
from fpnas.data.image_folder import image_folder
from fpnas.data.image_set import ImageSet
from fpnas.errors import ConfigError, DataError
from fpnas.utils.registry import Registry

SPLITS = ("train", "test")

DATASET_REGISTRY = Registry(
    "DATASET",
    """Data sets by name: callables ``(cfg, split) -> ImageSet``, where split is "train" or "test".

    "test" means the images that evaluation uses. The callable reads what it needs from cfg.DATA
    (ROOT, ...) and raises fpnas.errors.DataError, naming the file, when it cannot. Both splits must
    have the same classes in the same order. It need not resize, cache, shuffle or normalise.

    A data set of one's own, held in memory::

        import numpy as np, torch
        from fpnas.data import DATASET_REGISTRY, TensorImages

        @DATASET_REGISTRY.register(name="my_digits")
        def my_digits(cfg, split):
            data = np.load(f"{cfg.DATA.ROOT}/{split}.npz")     # images: uint8 [N, H, W] or
            images = torch.from_numpy(data["images"])          # [N, 3, H, W], all of one size
            return TensorImages(images, data["labels"], classes=[str(i) for i in range(10)])

    For image files in a layout of one's own return ``ImageFiles(paths, labels, classes)``. For any
    other source derive from ``ImageSet`` and implement ``image(index) -> uint8 [3, H, W]``; it must
    be picklable where worker processes are spawned rather than forked.
    """,
)
DATASET_REGISTRY.register(fashion_mnist_mini)
DATASET_REGISTRY.register(fashion_mnist)
DATASET_REGISTRY.register(image_folder)


def build_dataset(cfg: CfgNode, split: str) -> ImageSet:
    """The images of ``split`` ("train" or "test") that ``cfg.DATA`` asks for.

    :func:`find_dataset` finds them, :func:`cache_images` decodes them into memory as far as
    DATA.CACHE says. Raises as these two.
    """
    return cache_images(find_dataset(cfg, split), cfg)


def find_splits(cfg: CfgNode) -> tuple[ImageSet, ImageSet]:
    """The training and the test images, as :func:`find_dataset` finds them.

    Raises ConfigError, too, if their classes differ or if there is only one.
    """
    train_set, test_set = find_dataset(cfg, "train"), find_dataset(cfg, "test")
    if train_set.classes != test_set.classes:
        raise ConfigError(
            f"The training images of '{cfg.DATA.NAME}' have {len(train_set.classes)} classes, its "
            f"test images {len(test_set.classes)}, or others."
        )
    check_several_classes(train_set, cfg)
    return train_set, test_set


def check_several_classes(images: ImageSet, cfg: CfgNode) -> None:
    """Raise DataError if there is nothing to tell apart."""
    if len(images.classes) < 2:
        where = f" in {cfg.DATA.ROOT}" if cfg.DATA.ROOT else ""
        raise DataError(
            f"The data set '{cfg.DATA.NAME}'{where} has one class, "
            f"{', '.join(images.classes)}; a classifier needs at least two. For a folder of images "
            "that is one folder a class, such as train/cat and train/dog."
        )


def describe(cfg: CfgNode, **images: ImageSet) -> str:
    """For the log: name and folder of the data set, its classes, and how many ``images`` of what.

    >>> describe(cfg, training=train_set, test=test_set)
    'image_folder photos: 81 classes, 2,936 training and 2,485 test images'
    """
    name = f"{cfg.DATA.NAME} {cfg.DATA.ROOT}".strip()
    counts = " and ".join(f"{len(part):,} {kind}" for kind, part in images.items())
    classes = len(next(iter(images.values())).classes)
    return f"{name}: {classes:,} classes, {counts} images"


def find_dataset(cfg: CfgNode, split: str) -> ImageSet:
    """As :func:`build_dataset`, before any image file is decoded, which may take minutes.

    Takes DATA.NUM_RANDOM_CLASSES of the classes.

    Raises ConfigError for values under cfg.DATA of no use, UnknownNameError for an unknown
    DATA.NAME, DataError for folders and files of no use.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, not {split!r}.")
    check_data_config(cfg)
    image_set = DATASET_REGISTRY.get(cfg.DATA.NAME)(cfg, split)
    if not isinstance(image_set, ImageSet):
        raise DataError(
            f"The data set '{cfg.DATA.NAME}' returned a {type(image_set).__name__}; it must return "
            "an fpnas.data.ImageSet."
        )
    if not len(image_set):
        raise DataError(f"The data set '{cfg.DATA.NAME}' has no images in its split '{split}'.")
    if cfg.DATA.NUM_RANDOM_CLASSES:
        image_set = choose_classes(image_set, cfg.DATA.NUM_RANDOM_CLASSES, cfg.SEED)
    return image_set


CACHE_MODES = ("auto", "always", "never")
CROPS = ("resized", "pad", "none")
INTERPOLATIONS = ("bilinear", "bicubic")
POLICIES = ("", "autoaugment-imagenet", "autoaugment-cifar10", "randaugment", "trivialaugment")


def check_data_config(cfg: CfgNode) -> None:
    """Raise ConfigError, which names the key, for the first value under cfg.DATA of no use."""
    data, augment = cfg.DATA, cfg.DATA.AUGMENT
    check_name("DATA.CACHE", data.CACHE, CACHE_MODES)
    check_name("DATA.INTERPOLATION", data.INTERPOLATION, INTERPOLATIONS)
    check_name("DATA.AUGMENT.CROP", augment.CROP, CROPS)
    check_name("DATA.AUGMENT.POLICY", augment.POLICY, POLICIES)
    check_value("DATA.INPUT_SIZE", data.INPUT_SIZE, data.INPUT_SIZE >= 1, "at least 1")
    check_value("DATA.CROP_RATIO", data.CROP_RATIO, 0 < data.CROP_RATIO <= 1, "above 0, at most 1")
    for key in ("CACHE_LIMIT", "NUM_WORKERS", "NUM_RANDOM_CLASSES"):
        check_value(f"DATA.{key}", data[key], data[key] >= 0, "at least 0")
    check_value("DATA.HOLD_OUT", data.HOLD_OUT, 0 < data.HOLD_OUT < 1, "above 0, below 1")
    check_value("DATA.MEAN", data.MEAN, _numbers(data.MEAN, 3), "3 numbers")
    positive = _numbers(data.STD, 3) and min(data.STD) > 0
    check_value("DATA.STD", data.STD, positive, "3 numbers above 0")
    check_value("DATA.AUGMENT.PAD", augment.PAD, augment.PAD >= 0, "at least 0")
    for key in ("HFLIP", "COLOR", "ERASE"):
        check_value(f"DATA.AUGMENT.{key}", augment[key], 0 <= augment[key] <= 1, "0 to 1")
    ordered = _numbers(augment.SCALE, 2) and 0 < augment.SCALE[0] <= augment.SCALE[1] <= 1
    check_value(
        "DATA.AUGMENT.SCALE", augment.SCALE, ordered, "(low, high) with 0 < low <= high <= 1"
    )


def _numbers(values: Sequence[object], count: int) -> bool:
    return len(values) == count and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) for value in values
    )
