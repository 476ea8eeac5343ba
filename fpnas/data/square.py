"""Test images as the networks see them that take whole images as squares: detectors, segmenters."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F


def square_input(image: Tensor, side: int) -> Tensor:
    """uint8 [3, H, W] -> float32 [3, S, S] in [0, 1], resized whatever its shape; S is ``side``."""
    resized = F.resize(image, [side, side], antialias=True)
    return F.to_dtype(resized, torch.float32, scale=True)
