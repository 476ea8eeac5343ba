"""Images with boxes: what the readers return, and the samples of a training."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from fpnas.config import CfgNode
from fpnas.data import Fingerprint, SplitPrint
from fpnas.data.decode import decode_image, file_size
from fpnas.data.fingerprint import files_print
from fpnas_tasks.training import augmentation

# As torchvision's detectors want it: boxes float32 [n, 4] (x1, y1, x2, y2), px, and labels int64
# [n] from 1; 0 is the background.
Target = dict[str, Tensor]

# A box that is cut off by the edge of a zoomed image must keep this much of each side, px.
_MIN_SIDE = 4.0


@dataclass(frozen=True)
class Record:
    """An image file and its annotation.

    Attributes:
        file: of the image.
        boxes: float32 [n, 4] (x1, y1, x2, y2), px from the upper left corner of the image.
        labels: int64 [n], 1 for the first class.
        ignored: bool [n]; such boxes are not trained on, and finding them or not does not count.
    """

    file: Path
    boxes: Tensor
    labels: Tensor
    ignored: Tensor

    @classmethod
    def from_lists(
        cls, file: Path, boxes: list[list[float]], labels: list[int], ignored: list[bool]
    ) -> Record:
        """From plain lists, without the boxes that have no area."""
        corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        keep = (corners[:, 2:] > corners[:, :2]).all(dim=1)
        return cls(
            file,
            corners[keep],
            torch.tensor(labels, dtype=torch.int64)[keep],
            torch.tensor(ignored, dtype=torch.bool)[keep],
        )


@dataclass(frozen=True)
class DetectionSet:
    """Annotated images. ``classes[0]`` has the label 1."""

    records: tuple[Record, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.records)

    def image(self, index: int) -> Tensor:
        """uint8 [3, H, W] RGB. Raises DataError if the file cannot be read."""
        return decode_image(str(self.records[index].file))

    def target(self, index: int) -> Target:
        """What is trained on."""
        record = self.records[index]
        counts = ~record.ignored
        return {"boxes": record.boxes[counts], "labels": record.labels[counts]}


class AugmentedSet:
    """The samples of a training; draws from torch's global generator."""

    def __init__(self, data: DetectionSet, cfg: CfgNode) -> None:
        self._data = data
        self._transform = augmentation(
            cfg,
            cfg.DETECTION,
            {tv_tensors.BoundingBoxes: 0},
            v2.ClampBoundingBoxes(),
            v2.SanitizeBoundingBoxes(
                min_size=_MIN_SIDE, labels_getter=lambda sample: sample[1]["labels"]
            ),
        )

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        """Image float32 [3, S, S] in [0, 1], with the boxes that are still there."""
        image, target = self._data.image(index), self._data.target(index)
        boxes = tv_tensors.BoundingBoxes(
            target["boxes"], format="XYXY", canvas_size=tuple(image.shape[-2:])
        )
        sample = (tv_tensors.Image(image), {"boxes": boxes, "labels": target["labels"]})
        image, changed = self._transform(*sample)
        return image.as_subclass(Tensor), {
            "boxes": changed["boxes"].as_subclass(Tensor),
            "labels": changed["labels"],
        }


def collate(samples: list[tuple[Tensor, Target]]) -> tuple[Tensor, list[Target]]:
    """Images float32 [N, 3, S, S] and their targets."""
    images, targets = zip(*samples, strict=True)
    return torch.stack(images), list(targets)


def fingerprint(root: str, **splits: DetectionSet) -> Fingerprint:
    """What tells the ``splits`` by name from others: files, their sizes and annotations."""
    classes = next(iter(splits.values())).classes
    return Fingerprint(classes, {name: _split_print(root, data) for name, data in splits.items()})


def _split_print(root: str, data: DetectionSet) -> SplitPrint:
    traits = (f"{_annotation_hash(record)} {file_size(record.file)}" for record in data.records)
    return files_print(root, [record.file for record in data.records], traits)


def _annotation_hash(record: Record) -> str:
    digest = hashlib.sha256()
    for values in (record.boxes, record.labels, record.ignored):
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()[:16]
