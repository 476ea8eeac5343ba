"""Fashion-MNIST [Xiao et al. 2017], in full from the user's disk or as the embedded subset."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from fpnas.config import CfgNode
from fpnas.data.idx import read_idx
from fpnas.data.image_folder import dataset_root
from fpnas.data.image_set import ImageSet, TensorImages
from fpnas.errors import DataError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

_FILE_PREFIX = {"train": "train", "test": "t10k"}


def fashion_mnist(cfg: CfgNode, split: str) -> ImageSet:
    """The full data set: its four original idx files in DATA.ROOT, with or without .gz."""
    return _read(dataset_root(cfg), split)


def fashion_mnist_mini(cfg: CfgNode, split: str) -> ImageSet:
    """The embedded subset: 6,000 training and 1,000 test images, equally many of each class."""
    return _read(resources.files("fpnas.data") / "fashion_mnist_mini", split)


def _read(folder: Path | Traversable, split: str) -> ImageSet:
    prefix = _FILE_PREFIX[split]
    image_file = _find(folder, f"{prefix}-images-idx3-ubyte")
    images = read_idx(image_file)
    label_file = _find(folder, f"{prefix}-labels-idx1-ubyte")
    labels = read_idx(label_file)
    if images.dim() != 3 or labels.dim() != 1 or len(images) != len(labels):
        raise DataError(
            f"{image_file} has shape {list(images.shape)} and {label_file} has shape "
            f"{list(labels.shape)}; expected [N, height, width] and [N]."
        )
    if not len(images):
        raise DataError(f"{image_file} holds no images.")
    return TensorImages(images, labels, CLASSES)


def _find(folder: Path | Traversable, name: str) -> Path | Traversable:
    for candidate in (folder / f"{name}.gz", folder / name):
        if candidate.is_file():
            return candidate
    raise DataError(f"{folder} has neither {name}.gz nor {name}.")
