"""Pictures of detections."""

from __future__ import annotations

from torch import Tensor
from torchvision.utils import draw_bounding_boxes

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
