"""Predictions in the pixels of the stored image: their intersection over union, and drawn."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.utils import draw_segmentation_masks

from fpnas.data.preprocessing import square_input
from fpnas.training.accuracy import evaluating
from fpnas_segmentation.data import IGNORED, SegmentationSet

# Distinct for the colour-blind [Okabe and Ito 2008]; classes beyond take them again.
_COLOURS = ("#D55E00", "#0072B2", "#F0E442", "#CC79A7", "#009E73", "#56B4E9")


def predict(model: nn.Module, image: Tensor, side: int) -> Tensor:
    """Classes int64 [H, W] of ``image``, uint8 [3, H, W], by ``model`` in eval mode.

    ``side``: S, of the model's input. Logits, not classes, are resized to the image.
    """
    device = next(model.parameters()).device
    with torch.inference_mode():
        logits = model(square_input(image, side)[None].to(device))
        logits = F.interpolate(logits, image.shape[1:], mode="bilinear", align_corners=False)
    return logits[0].argmax(0).cpu()


def evaluate(
    model: nn.Module, data: SegmentationSet, side: int, classes: tuple[str, ...]
) -> dict[str, float]:
    """Scores of ``model`` on all images of ``data``, see :func:`iou_scores`.

    The modes of the model's parts are as before afterwards.
    """
    matrix = torch.zeros(len(classes), len(classes), dtype=torch.int64)
    with evaluating(model):
        for index in range(len(data)):
            image, mask = data.pair(index)
            matrix += confusion(predict(model, image, side), mask, len(classes))
    return iou_scores(matrix, classes)


def confusion(found: Tensor, truth: Tensor, num_classes: int) -> Tensor:
    """Pixels int64 [true class, predicted class]; those to ignore in ``truth`` do not count."""
    counts = truth != IGNORED
    cells = truth[counts] * num_classes + found[counts]
    return torch.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def iou_scores(matrix: Tensor, classes: tuple[str, ...]) -> dict[str, float]:
    """Shares in [0, 1]: "miou" (mean over the classes), "pixel_accuracy" and "iou_NAME" of each.

    A class that is neither there nor predicted has no IoU and does not count in the mean.
    """
    right = matrix.diagonal()
    union = matrix.sum(0) + matrix.sum(1) - right
    iou = {name: float(right[i] / union[i]) for i, name in enumerate(classes) if int(union[i]) > 0}
    return {
        "miou": sum(iou.values()) / max(1, len(iou)),
        "pixel_accuracy": float(right.sum() / matrix.sum().clamp(min=1)),
        **{f"iou_{name}": value for name, value in iou.items()},
    }


def overlay(image: Tensor, mask: Tensor, num_classes: int) -> Tensor:
    """``image``, uint8 [3, H, W], tinted where ``mask``, int64 [H, W], is 1 or more. New image.

    Class 0 and ignored pixels stay as they are.
    """
    masks = torch.stack([mask == number for number in range(1, num_classes)])
    colours = [_COLOURS[number % len(_COLOURS)] for number in range(num_classes - 1)]
    return draw_segmentation_masks(image, masks, alpha=0.6, colors=colours)
