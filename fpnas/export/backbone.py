"""ONNX of a backbone: one output for each stage, under the stage's name."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fpnas.errors import UserError
from fpnas.export.checked import SideBySide, export_checked, first_line
from fpnas.export.parity import Tolerance, compare
from fpnas.export.rewrites import AUTO
from fpnas.modeling import SearchedBackbone

# Of a feature map only the numbers count; it has no best class.
_TOLERANCE = Tolerance(min_top1_agreement=0.0)


def export_backbone(
    backbone: SearchedBackbone,
    path: str | Path,
    images: Tensor,
    metadata: Mapping[str, Any] | None = None,
    rewrites: Iterable[str] = (AUTO,),
) -> dict[str, float]:
    """Write ``path``, an ONNX file from one image of fixed size to the feature maps.

    Args:
        backbone: stays as it is; its eval mode is written.
        path: of the file. Written only if it is right; its folder is made if need be.
        images: float32 (N, C, H, W), N >= 2, preprocessed. The file takes ``images`` (1, C, H, W)
            and is run on each of these in ONNX Runtime.
        metadata, rewrites: as those of :func:`fpnas.export.export_model`.

    Returns the largest relative error of each output against PyTorch (see
    :class:`fpnas.export.parity.Parity`).

    Raises UserError if backbone, images or folder cannot be used, or if an output is not that of
    PyTorch.
    """
    if not isinstance(backbone, SearchedBackbone):
        raise UserError(
            f"export_backbone needs a SearchedBackbone, found a {type(backbone).__name__}. For a "
            "classifier call export_model."
        )
    if images.dtype != torch.float32 or images.dim() != 4 or len(images) < 2:
        raise UserError(
            "The export of a backbone needs float32 images (N, C, H, W) with N >= 2 to compare "
            f"outputs, found {images.dtype} {tuple(images.shape)}."
        )
    images = images.detach().cpu().contiguous()
    reference = copy.deepcopy(backbone).eval().to("cpu", torch.float32)
    try:
        with torch.inference_mode():
            reference(images[:1])
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"The backbone cannot take images {tuple(images.shape)}: {first_line(error)}"
        ) from error
    names = list(backbone.out_features)
    return export_checked(
        backbone, reference, path, images, names, _errors, metadata=metadata, rewrites=rewrites
    )


def _errors(both: SideBySide) -> dict[str, float]:
    """Relative error of each output of the file; UserError if one is beyond the tolerance."""
    errors = {}
    for index, name in enumerate(both.ours[0]):
        expected = np.stack([maps[name].numpy().ravel() for maps in both.ours])
        parity = compare(expected, np.stack([maps[index].ravel() for maps in both.theirs]))
        status, message = parity.judge(_TOLERANCE)
        if status == "failed":
            raise UserError(f"ONNX output '{name}': {message}.")
        errors[name] = parity.max_rel_error
    return errors
