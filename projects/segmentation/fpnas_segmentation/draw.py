"""Pictures of masks."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.utils import draw_segmentation_masks

# Distinct for the colour-blind [Okabe and Ito 2008]; classes beyond take them again.
_COLOURS = ("#D55E00", "#0072B2", "#F0E442", "#CC79A7", "#009E73", "#56B4E9")


def overlay(image: Tensor, mask: Tensor, num_classes: int) -> Tensor:
    """``image``, uint8 [3, H, W], tinted where ``mask``, int64 [H, W], is 1 or more. New image.

    Class 0 and ignored pixels stay as they are.
    """
    masks = torch.stack([mask == number for number in range(1, num_classes)])
    colours = [_COLOURS[number % len(_COLOURS)] for number in range(num_classes - 1)]
    return draw_segmentation_masks(image, masks, alpha=0.6, colors=colours)
