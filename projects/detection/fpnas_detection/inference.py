"""A detector made from nothing but its checkpoint; detections on stored images, and drawn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.utils import draw_bounding_boxes

from fpnas.config import CfgNode
from fpnas.data.preprocessing import square_input
from fpnas.errors import CheckpointError
from fpnas.utils.checkpoint import read_checkpoint
from fpnas_detection.config import check_config, get_detection_cfg
from fpnas_detection.models import build_detector
from fpnas_tasks.training import stored_cfg, trained

# boxes float32 [n, 4] (x1, y1, x2, y2) px, labels int64 [n] from 1, scores float32 [n] descending.
Detections = dict[str, Tensor]

# Distinct for the colour-blind [Okabe and Ito 2008]; classes beyond take them again.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


@dataclass(frozen=True)
class TrainedDetector:
    """A detector in eval mode, its config and the names of its classes (label 1 is the first)."""

    model: nn.Module
    cfg: CfgNode
    classes: tuple[str, ...]


def load_detector(path: str | Path, overrides: list[str] | None = None) -> TrainedDetector:
    """The detector in a checkpoint of a training, such as ``model_final.pth``.

    Args:
        path: of the checkpoint, which holds config and classes.
        overrides: KEY VALUE pairs on top of that config, such as ``["DATA.ROOT", "bccd"]``, or
            MODEL.ARCH where the architecture's file has moved.

    Raises CheckpointError if it is no checkpoint of a detector or does not fit, ConfigError on
    unusable overrides.
    """
    contents = read_checkpoint(path)
    if "detection_classes" not in contents:
        raise CheckpointError(f"'{path}' is no checkpoint of a detector: it names no classes.")
    cfg = stored_cfg(contents, get_detection_cfg(), check_config, overrides)
    classes = tuple(contents["detection_classes"])
    return TrainedDetector(trained(build_detector(cfg, len(classes)), path), cfg, classes)


def detect(model: nn.Module, images: list[Tensor], side: int) -> list[Detections]:
    """Detections on ``images``, uint8 [3, H, W] each, in their pixels, on the CPU.

    ``model``: in eval mode. ``side``: S, of its input.
    """
    device = next(model.parameters()).device
    with torch.inference_mode():
        found = model([square_input(image, side).to(device) for image in images])
    results = []
    for image, detections in zip(images, found, strict=True):
        height, width = image.shape[-2:]
        scale = torch.tensor([width, height, width, height]) / side
        here = {name: value.cpu() for name, value in detections.items()}
        results.append({**here, "boxes": here["boxes"] * scale})
    return results


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
