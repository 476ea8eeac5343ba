"""A file takes its place only once it has been compared with the PyTorch network."""

from __future__ import annotations

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

from fpnas.export import onnx
from fpnas.export.rewrites import AUTO
from fpnas.export.source import prepare_source
from fpnas.utils.file_io import output_file
from fpnas.utils.machine import torch_threads

Found = TypeVar("Found")


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
        onnx.write(source, draft, outputs)
        return judge(_side_by_side(reference, draft, images, outputs, threads))


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
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def first_line(error: BaseException) -> str:
    """Exporters' messages run to pages; the first line says what happened."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


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
