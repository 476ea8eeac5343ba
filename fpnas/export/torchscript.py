"""TorchScript (legacy): a traced and frozen program for runtimes that still load it.

PyTorch has deprecated TorchScript in favour of torch.export (the ``pt2`` format). It stays because
deployed applications with LibTorch or PyTorch Mobile read nothing else.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from fpnas.export.source import ExportSource, Runner, torch_runner

METADATA_FILE = "metadata.json"


def export(source: ExportSource, path: Path) -> None:
    """Trace ``source.network`` on the example, freeze it and write ``path``.

    The metadata is the extra file ``metadata.json`` of the archive.
    """
    with _without_deprecation(), torch.no_grad():
        # The parity check on real images replaces the tracer's own, which repeats the example.
        traced = torch.jit.trace(source.network, source.example, check_trace=False)
        frozen = torch.jit.freeze(traced)
        extra = {METADATA_FILE: json.dumps(dict(source.metadata))}
        buffer = io.BytesIO()  # PyTorch's own file writer aborts the process on a full disk
        torch.jit.save(frozen, buffer, _extra_files=extra)
    path.write_bytes(buffer.getbuffer())


def load(path: Path, threads: int = 1) -> Runner:
    """The program as a function of the images.

    ``threads`` has no effect here: PyTorch's threads belong to the process, so the benchmark sets
    them around its calls.
    """
    with _without_deprecation():
        program = torch.jit.load(str(path), map_location="cpu")
    return torch_runner(program)


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata that :func:`export` wrote."""
    extra = {METADATA_FILE: ""}
    with _without_deprecation():
        torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
    return json.loads(extra[METADATA_FILE])


@contextmanager
def _without_deprecation() -> Iterator[None]:
    """The user chose a format that our documentation calls legacy: one warning a call is noise."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", message=r"`torch\.jit", category=category)
        yield
