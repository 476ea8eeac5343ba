"""DATASET_REGISTRY and build_dataset, the way from the config to an ImageSet."""

from __future__ import annotations

from fpnas.config import CfgNode
from fpnas.data.cache import cache_images
from fpnas.data.fashion_mnist import fashion_mnist, fashion_mnist_mini
from fpnas.data.image_folder import image_folder
from fpnas.data.image_set import ImageSet
from fpnas.data.options import check_data_config
from fpnas.data.split import choose_classes
from fpnas.errors import DataError
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
