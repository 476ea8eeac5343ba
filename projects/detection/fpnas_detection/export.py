"""ONNX files of detectors, checked in ONNX Runtime.

torchvision's detectors choose their candidates by loops whose lengths depend on the image, which
torch.export does not take. :class:`ExportedForm` computes the same detections with a fixed number
of candidates; only non-maximum suppression has an output of variable length.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.ops import clip_boxes_to_image, nms

from fpnas.errors import UserError
from fpnas.export import onnx
from fpnas.export.checked import SideBySide, export_checked
from fpnas_detection.inference import Detections, TrainedDetector

OUTPUTS = ["boxes", "scores", "labels"]
TOLERANCE = 0.5  # px of the network's input

# Detections whose score is this near to the threshold, or to the last one that an image may have,
# may be missing in one of the two.
_SCORE_MARGIN = 1e-3


class ExportedForm(nn.Module):
    """One image float32 [1, 3, S, S] in [0, 1] -> boxes [n, 4], scores [n], labels int64 [n].

    Shares the parts of ``detector``, a RetinaNet or an SSD in eval mode on squares of ``side``.
    """

    def __init__(self, detector: RetinaNet | SSD, side: int) -> None:
        super().__init__()
        self.backbone = detector.backbone
        self.head = detector.head
        self._coder = detector.box_coder
        self._side = side
        self._is_ssd = isinstance(detector, SSD)
        self._candidates = detector.topk_candidates
        self._score_threshold = detector.score_thresh
        self._nms_threshold = detector.nms_thresh
        self._max_detections = detector.detections_per_img
        for name in ("mean", "std"):
            values = torch.tensor(getattr(detector.transform, f"image_{name}"))
            self.register_buffer(name, values[:, None, None])
        # The anchors follow from the side alone.
        images = torch.zeros(1, 3, side, side)
        with torch.no_grad():
            maps = list(self.backbone(images).values())
            anchors = detector.anchor_generator(ImageList(images, [(side, side)]), maps)[0]
            self.register_buffer("anchors", anchors)
        per_cell = detector.anchor_generator.num_anchors_per_location()
        self._per_level = [
            m.shape[-2] * m.shape[-1] * count for m, count in zip(maps, per_cell, strict=True)
        ]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = list(self.backbone((image - self.mean) / self.std).values())
        outputs = self.head(maps)
        logits, deltas = outputs["cls_logits"][0], outputs["bbox_regression"][0]
        # Offsets are decoded for the candidates only, as torchvision does.
        anchors, scores, labels = (
            self._best_of_classes(logits) if self._is_ssd else self._best_of_levels(logits)
        )
        boxes = self._coder.decode_single(deltas[anchors], self.anchors[anchors])
        boxes = clip_boxes_to_image(boxes, (self._side, self._side))
        # Classes are moved apart, so that boxes of different ones never overlap.
        apart = boxes + (labels * 2 * self._side).to(boxes.dtype)[:, None]
        kept = nms(apart, scores, self._nms_threshold)
        kept = kept[scores[kept] > self._score_threshold][: self._max_detections]
        return boxes[kept], scores[kept], labels[kept]

    def _best_of_levels(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Anchor, score and label of the best candidates of each level, as RetinaNet has it."""
        found, first = [], 0
        for count, level in zip(self._per_level, logits.split(self._per_level), strict=True):
            flat = level.sigmoid().flatten()
            scores, best = flat.topk(min(self._candidates, flat.shape[0]))
            classes = logits.shape[-1]
            found.append((first + best // classes, scores, best % classes))
            first += count
        return tuple(torch.cat(column) for column in zip(*found, strict=True))

    def _best_of_classes(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Anchor, score and label of the best candidates of each class, as SSD has it."""
        foreground = logits.softmax(dim=-1)[:, 1:]
        count = min(self._candidates, foreground.shape[0])
        scores, anchors = foreground.topk(count, dim=0)
        labels = torch.arange(1, logits.shape[-1]).expand(count, -1)
        return anchors.flatten(), scores.flatten(), labels.flatten()


@dataclass(frozen=True)
class Comparison:
    """ONNX Runtime against PyTorch.

    Attributes:
        max_difference: largest difference of a coordinate between a detection and its partner of
            the same class, px of the network's input.
        detections: of PyTorch, over all images, that must have a partner: those whose score is not
            within 0.001 of being left out.
        torch_ms, onnx_ms: median wall time of an image, with the threads given.
        accelerators: of phones, see :func:`fpnas.export.onnx.accelerators`.
    """

    max_difference: float
    detections: int
    torch_ms: float
    onnx_ms: float
    accelerators: Mapping[str, str]


def export_detector(
    detector: TrainedDetector, path: str | Path, images: Tensor, threads: int = 1
) -> Comparison:
    """Write ``path`` and compare it with the detector on ``images``.

    Args:
        detector: a RetinaNet or an SSDLite; stays as it is. EXPORT.REWRITES of its config apply.
        path: of the file, whose folder is made if need be. Written only if it is right. It takes
            ``images`` (1, 3, S, S) in [0, 1] and returns ``boxes``, ``scores`` and ``labels``, best
            first.
        images: float32 (N, 3, S, S) in [0, 1], on which both are run.
        threads: of both while they are timed.

    Raises UserError if the detector is of another kind or ``path`` cannot be written, if boxes
    differ by more than 0.5 px, or if there is no detection to compare.
    """
    cfg = detector.cfg
    if not isinstance(detector.model, (RetinaNet, SSD)):
        raise UserError(
            f"DETECTION.ARCH is '{cfg.DETECTION.ARCH}'; valid for an export: 'retinanet' and "
            "'ssdlite'."
        )
    model = copy.deepcopy(detector.model).cpu().eval()
    with warnings.catch_warnings():  # torchvision's nms on its own future
        warnings.filterwarnings("ignore", "`create_unbacked_symint`", FutureWarning)
        return export_checked(
            ExportedForm(model, cfg.DATA.INPUT_SIZE),
            lambda image: model(list(image))[0],
            path,
            images,
            OUTPUTS,
            lambda both: _judged(both, model),
            metadata={"classes": list(detector.classes), "config": cfg.dump()},
            rewrites=cfg.EXPORT.REWRITES,
            threads=threads,
        )


def load_exported(path: str | Path, threads: int = 1) -> Callable[[np.ndarray], Detections]:
    """The file as a function from an image, float32 (1, 3, S, S) in [0, 1], to its detections."""
    run = onnx.load_outputs(Path(path), OUTPUTS, threads)
    return lambda image: _detections(run(image))


def _detections(outputs: list[np.ndarray]) -> Detections:
    return {name: torch.from_numpy(out) for name, out in zip(OUTPUTS, outputs, strict=True)}


def _judged(both: SideBySide, model: RetinaNet | SSD) -> Comparison:
    """Raises UserError if detections have no partner, or if there are none."""
    differences, unmatched, total = [0.0], 0, 0
    for ours, outputs in zip(both.ours, both.theirs, strict=True):
        theirs = _detections(outputs)
        limit = _lowest_certain_score(ours, model)
        for one, other in ((ours, theirs), (theirs, ours)):
            found = partner_distances(one, other, limit)
            differences += found[found <= TOLERANCE].tolist()
            unmatched += int((found > TOLERANCE).sum())
        total += int((ours["scores"] >= limit).sum())
    if total == 0:
        raise UserError(
            "The detector finds nothing on the images of the export, so equal outputs prove "
            "nothing; use other images or a lower DETECTION.SCORE_THRESHOLD."
        )
    if unmatched:
        raise UserError(
            f"{unmatched} detections of ONNX Runtime and PyTorch have no partner within "
            f"{TOLERANCE} px ({total} detections)."
        )
    return Comparison(
        max(differences),
        total,
        both.torch_ms,
        both.onnx_ms,
        onnx.accelerators(both.file),
    )


def _lowest_certain_score(found: Detections, model: RetinaNet | SSD) -> float:
    """Detections above it must be on both sides."""
    limit = model.score_thresh
    if len(found["scores"]) >= model.detections_per_img:
        limit = max(limit, float(found["scores"].min()))
    return limit + _SCORE_MARGIN


def partner_distances(one: Detections, other: Detections, limit: float) -> Tensor:
    """For each box of ``one`` with a score of at least ``limit``: the largest difference of a
    coordinate from the nearest box of the same class in ``other``; infinity without one."""
    certain = one["scores"] >= limit
    boxes, labels = one["boxes"][certain], one["labels"][certain]
    if len(boxes) == 0 or len(other["boxes"]) == 0:
        return torch.full((len(boxes),), torch.inf)
    distances = (boxes[:, None] - other["boxes"][None]).abs().amax(dim=2)
    distances[labels[:, None] != other["labels"][None]] = torch.inf
    return distances.amin(dim=1)
