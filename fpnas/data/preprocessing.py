"""Preprocessing: the way from a stored image to the network input at test time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from fpnas.config import CfgNode
from fpnas.errors import DataError
from fpnas.utils.records import parse, to_plain


@dataclass(frozen=True)
class Preprocessing:
    """Resize, centre crop and normalisation; the same for one image and for a batch.

    Attributes:
        input_size: side S of the square network input, px.
        crop_ratio: the shorter side is resized to :attr:`resize_to` = round(S / crop_ratio), then
            the central S x S are cut out. An image of exactly S x S is taken as it is, so that
            data sets of small images (28 x 28, 32 x 32) are neither resized nor cropped.
        interpolation: "bilinear" or "bicubic", with antialiasing.
        mean, std: per RGB channel, for pixels in [0, 1].
    """

    input_size: int
    crop_ratio: float
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def resize_to(self) -> int:
        """Shorter side after resizing, px."""
        return round(self.input_size / self.crop_ratio)

    @property
    def interpolation_mode(self) -> InterpolationMode:
        return InterpolationMode(self.interpolation)

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 [..., 3, H, W] RGB -> normalised float32 [..., 3, S, S]."""
        return self.normalize(self.resize_and_crop(images))

    def resize_and_crop(self, images: Tensor) -> Tensor:
        """uint8 [..., 3, H, W] -> uint8 [..., 3, S, S]."""
        side = self.input_size
        if images.shape[-2:] == (side, side):
            return images
        return F.center_crop(self.resize(images), [side, side])

    def resize(self, images: Tensor) -> Tensor:
        """uint8 [..., 3, H, W] -> the same with the shorter side :attr:`resize_to`."""
        return F.resize(images, [self.resize_to], self.interpolation_mode, antialias=True)

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 [..., 3, H, W] -> float32 of the same shape with the data set's mean and std."""
        scaled = F.to_dtype(images, torch.float32, scale=True)
        return F.normalize(scaled, list(self.mean), list(self.std), inplace=True)

    def to_dict(self) -> dict[str, Any]:
        """Numbers, strings and lists only, for JSON, YAML and checkpoints."""
        return to_plain(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """The inverse of :meth:`to_dict`. Raises DataError on a key or value that does not fit."""
        return parse(cls, values, "preprocessing", error=DataError)


def preprocessing(cfg: CfgNode) -> Preprocessing:
    """The preprocessing that ``cfg.DATA`` asks for."""
    return Preprocessing(
        input_size=cfg.DATA.INPUT_SIZE,
        crop_ratio=float(cfg.DATA.CROP_RATIO),
        interpolation=cfg.DATA.INTERPOLATION,
        mean=tuple(float(value) for value in cfg.DATA.MEAN),
        std=tuple(float(value) for value in cfg.DATA.STD),
    )


def set_preprocessing(cfg: CfgNode, wanted: Preprocessing) -> None:
    """Set the keys of ``cfg.DATA`` that :func:`preprocessing` reads; the inverse of it."""
    for key, value in wanted.to_dict().items():
        cfg.DATA[key.upper()] = tuple(value) if isinstance(value, list) else value


def square_input(image: Tensor, side: int) -> Tensor:
    """uint8 [3, H, W] -> float32 [3, S, S] in [0, 1], resized whatever its shape; S is ``side``."""
    resized = F.resize(image, [side, side], antialias=True)
    return F.to_dtype(resized, torch.float32, scale=True)
