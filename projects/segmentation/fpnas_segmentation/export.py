"""ONNX files of segmenters, checked in ONNX Runtime."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from fpnas.errors import UserError
from fpnas.export import Tolerance, compare, onnx
from fpnas.export.checked import SideBySide, export_checked
from fpnas_segmentation.run import TrainedSegmenter

# Where two classes are equally probable, rounding decides: a few pixels may differ.
TOLERANCE = Tolerance(max_rel_error=1e-4, min_top1_agreement=99.9)


@dataclass(frozen=True)
class Comparison:
    """ONNX Runtime against PyTorch.

    Attributes:
        max_rel_error: largest difference of a logit, see :class:`fpnas.export.Parity`.
        agreement: pixels that have the same class in both, percent.
        torch_ms, onnx_ms: median wall time of an image, with the threads given.
        accelerators: of phones, see :func:`fpnas.export.onnx.accelerators`.
    """

    max_rel_error: float
    agreement: float
    torch_ms: float
    onnx_ms: float
    accelerators: Mapping[str, str]


def export_segmenter(
    segmenter: TrainedSegmenter, path: str | Path, images: Tensor, threads: int = 1
) -> Comparison:
    """Write ``path`` and compare it with the segmenter on ``images``.

    Args:
        segmenter: stays as it is. EXPORT.REWRITES of its config apply.
        path: of the file, whose folder is made if need be. Written only if it is right. It takes
            ``images`` (1, 3, S, S) in [0, 1] and returns ``logits`` (1, num_classes, S, S).
        images: float32 (N, 3, S, S) in [0, 1], N >= 1.
        threads: of both runtimes.

    Raises UserError if ``path`` cannot be written, if outputs differ, or if they are so nearly
    equal for all pixels that equal ones prove nothing.
    """
    cfg = segmenter.cfg
    model = copy.deepcopy(segmenter.model).cpu().eval()
    metadata = {"classes": list(segmenter.classes), "config": cfg.dump()}
    return export_checked(
        model,
        model,
        path,
        images,
        [onnx.OUTPUT],
        _judged,
        metadata=metadata,
        rewrites=cfg.EXPORT.REWRITES,
        threads=threads,
    )


def _judged(both: SideBySide) -> Comparison:
    """Raises UserError if the outputs are beyond the tolerance."""
    ours = [_rows(logits.numpy()) for logits in both.ours]
    theirs = [_rows(logits) for [logits] in both.theirs]
    parity = compare(np.concatenate(ours), np.concatenate(theirs))
    status, message = parity.judge(TOLERANCE)
    if status != "ok":
        raise UserError(f"The ONNX file of the segmenter: {message}.")
    return Comparison(
        parity.max_rel_error,
        parity.top1_agreement,
        both.torch_ms,
        both.onnx_ms,
        onnx.accelerators(both.file),
    )


def _rows(logits: np.ndarray) -> np.ndarray:
    """(1, K, S, S) -> (S * S, K): to the comparison a pixel is what an image is elsewhere."""
    return logits[0].reshape(logits.shape[1], -1).T
