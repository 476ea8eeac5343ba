"""From stored images to the network's input, with their boxes, by torchvision's transforms v2.

The network sees squares: images are resized to S x S whatever their shape, as SSD has it. That
spends all of its pixels on the image.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from fpnas.config import CfgNode
from fpnas_detection.data import Target

# A box that is cut off by the edge of a zoomed image must keep this much of each side, px.
_MIN_SIDE = 4.0


class TrainTransform:
    """Flips, changes colours, zooms and resizes; draws from torch's global generator."""

    def __init__(self, cfg: CfgNode) -> None:
        keys, side = cfg.DETECTION, cfg.DATA.INPUT_SIZE
        fill = [round(255 * mean) for mean in cfg.DATA.MEAN]  # 0 after normalisation
        self._transform = v2.Compose(
            [
                v2.Resize((side, side), antialias=True),
                v2.RandomHorizontalFlip(cfg.DATA.AUGMENT.HFLIP),
                v2.RandomVerticalFlip(keys.VFLIP),
                v2.RandomPhotometricDistort(p=keys.PHOTOMETRIC),
                v2.ScaleJitter((side, side), scale_range=keys.ZOOM, antialias=True),
                v2.RandomCrop((side, side), pad_if_needed=True, fill=fill),
                v2.ClampBoundingBoxes(),
                v2.SanitizeBoundingBoxes(
                    min_size=_MIN_SIDE, labels_getter=lambda sample: sample[1]["labels"]
                ),
                v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            ]
        )

    def __call__(self, image: Tensor, target: Target) -> tuple[Tensor, Target]:
        """uint8 [3, H, W] -> float32 [3, S, S] in [0, 1], with the boxes that are still there."""
        boxes = tv_tensors.BoundingBoxes(
            target["boxes"], format="XYXY", canvas_size=tuple(image.shape[-2:])
        )
        sample = (tv_tensors.Image(image), {"boxes": boxes, "labels": target["labels"]})
        image, changed = self._transform(*sample)
        return image.as_subclass(Tensor), {
            "boxes": changed["boxes"].as_subclass(Tensor),
            "labels": changed["labels"],
        }
