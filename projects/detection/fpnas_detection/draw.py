"""Pictures of detections."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from torchvision.utils import draw_bounding_boxes, make_grid

from fpnas_detection.inference import Detections

# Distinct for the colour-blind [Okabe and Ito 2008]; classes beyond take them again.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def draw_detections(
    image: Tensor, found: Detections, classes: tuple[str, ...], threshold: float = 0.5
) -> Tensor:
    """``image``, uint8 [3, H, W], with a box, class and score (percent) for each detection.

    Detections below ``threshold`` are left out. Returns a new image.
    """
    shown = found["scores"] >= threshold
    labels = found["labels"][shown].tolist()
    scores = found["scores"][shown].tolist()
    return draw_bounding_boxes(
        image,
        found["boxes"][shown],
        [f"{classes[label - 1]} {score:.0%}" for label, score in zip(labels, scores, strict=True)],
        [_COLOURS[(label - 1) % len(_COLOURS)] for label in labels],
        width=max(1, min(image.shape[-2:]) // 200),
    )


def picture_of(images: list[Tensor], columns: int = 3, width: int = 400) -> Tensor:
    """One picture, uint8 [3, H, W], of ``images`` side by side, ``width`` px each."""
    height = max(round(width * image.shape[1] / image.shape[2]) for image in images)
    same = torch.stack([F.resize(image, [height, width], antialias=True) for image in images])
    return make_grid(same, nrow=columns, padding=4, pad_value=255)
