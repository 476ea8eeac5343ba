"""Fashion-MNIST [Xiao et al. 2017], in full from the user's disk or as the embedded subset."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fpnas.config import CfgNode
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


def read_idx(file: Path | Traversable) -> Tensor:
    """The uint8 tensor in an idx file, the format of MNIST, compressed by gzip or not.

    The header has its type, its number of dimensions and its shape.

    Raises DataError, which names the file, if it cannot be read or is no idx file of bytes.
    """
    try:
        data = file.read_bytes()
        if data.startswith(b"\x1f\x8b"):  # gzip
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} cannot be read: {error}") from None
    if len(data) < 4 or data[:3] != b"\0\0\x08":  # unsigned bytes
        raise DataError(
            f"{file} is no idx file of bytes: it starts with {data[:4].hex() or 'nothing'}, "
            "expected 000008 and the number of dimensions."
        )
    header_size = 4 + 4 * data[3]
    if len(data) < header_size:
        raise DataError(f"{file} ends inside its header, after {len(data)} bytes.")
    shape = struct.unpack(f">{data[3]}I", data[4:header_size])
    if len(data) - header_size != math.prod(shape):
        raise DataError(
            f"{file} announces {' x '.join(map(str, shape))} bytes but holds "
            f"{len(data) - header_size}."
        )
    # bytearray: torch wants a buffer that it may write to.
    content = bytearray(data[header_size:])
    if not content:
        return torch.empty(shape, dtype=torch.uint8)
    return torch.frombuffer(content, dtype=torch.uint8).reshape(shape)
