"""A file takes its place only once it has been compared with the PyTorch network.

:func:`export_checked` writes ONNX of any network with several outputs, :func:`export_backbone` that
of a backbone: one output for each stage, under the stage's name.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from fpnas.errors import UserError
from fpnas.export import onnx
from fpnas.export.parity import Tolerance, compare
from fpnas.export.rewrites import AUTO
from fpnas.export.source import prepare_source
from fpnas.modeling import SearchedBackbone
from fpnas.utils.file_io import output_file
from fpnas.utils.machine import torch_threads

Found = TypeVar("Found")

# Of a feature map only the numbers count; it has no best class.
_FEATURES = Tolerance(min_top1_agreement=0.0)


@dataclass(frozen=True)
class SideBySide:
    """What network and file make of the same images.

    Attributes:
        ours: what the network returns for each image.
        theirs: the outputs of the file for each image.
        torch_ms, onnx_ms: median wall time of an image.
        file: where it is until it takes its place.
    """

    ours: list[Any]
    theirs: list[list[np.ndarray]]
    torch_ms: float
    onnx_ms: float
    file: Path


def export_checked(
    network: nn.Module,
    reference: Callable[[Tensor], Any],
    path: str | Path,
    images: Tensor,
    outputs: list[str],
    judge: Callable[[SideBySide], Found],
    metadata: Mapping[str, Any] | None = None,
    rewrites: Iterable[str] = (AUTO,),
    threads: int = 1,
) -> Found:
    """Write ``path``, ONNX from one image to several outputs, unless ``judge`` raises.

    Args:
        network: maps images (1, C, H, W) to ``outputs``, in that order. Stays as it is.
        reference: the same in PyTorch, in whatever form ``judge`` compares.
        path: of the file, whose folder is made if need be.
        images: float32 (N, C, H, W) on the CPU; network and file are run on each.
        judge: raises if the file is wrong; what it returns is the result.
        metadata, rewrites: as those of :func:`fpnas.export.export_model`.
        threads: of both runtimes.

    Raises UserError if ``path`` cannot be written, and whatever exporter and ``judge`` raise.
    """
    path = output_file(path)
    source = prepare_source(network, images, metadata or {}, 1, False, rewrites)
    with draft_of(path) as draft:
        onnx.save(onnx.make_graph(source, outputs), draft)
        return judge(_side_by_side(reference, draft, images, outputs, threads))


def _side_by_side(
    reference: Callable[[Tensor], Any],
    file: Path,
    images: Tensor,
    outputs: list[str],
    threads: int,
) -> SideBySide:
    """Both on one image after the other, in turns, so that both meet the same load."""
    run = onnx.load_outputs(file, outputs, threads)
    ours, theirs, torch_times, onnx_times = [], [], [], []
    with torch_threads(threads), torch.inference_mode():
        for image in images.split(1):
            start = time.perf_counter()
            ours.append(reference(image))
            middle = time.perf_counter()
            theirs.append(run(image.numpy()))
            torch_times.append(middle - start)
            onnx_times.append(time.perf_counter() - middle)
    torch_ms, onnx_ms = (1000 * statistics.median(times) for times in (torch_times, onnx_times))
    return SideBySide(ours, theirs, torch_ms, onnx_ms, file)


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
        status, message = parity.judge(_FEATURES)
        if status == "failed":
            raise UserError(f"ONNX output '{name}': {message}.")
        errors[name] = parity.max_rel_error
    return errors


@contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """A place to write to. What is there when the block ends, file or folder, replaces ``path``.

    If the block raises, ``path`` stays as it was. Exporters may leave more than one file behind;
    all of them go with the folder that the draft stands in.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as scratch:
        draft = Path(scratch) / path.name
        yield draft
        if draft.is_dir() and path.is_dir():  # only a file may be replaced in one step
            path.rename(Path(scratch) / f"earlier-{path.name}")
        draft.replace(path)


def size_bytes(path: Path) -> int:
    """Of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())


def first_line(error: BaseException) -> str:
    """Exporters' messages run to pages; the first line says what happened."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
