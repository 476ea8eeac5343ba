"""TorchScript (legacy): a traced and frozen program for runtimes that still load it.

PyTorch has deprecated TorchScript in favour of torch.export (the ``pt2`` format). It stays because
deployed applications with LibTorch or PyTorch Mobile read nothing else.

A file holds code in TorchScript's own language, which runs when it is loaded (``__setstate__``) and
when it is called. It cannot run Python, start processes or unpickle Python objects; but operators
such as ``aten::save`` write any file that the user may write, so that files from elsewhere are
refused as in :mod:`fpnas.export.trusted`.
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
from fpnas.export.trusted import METADATA_FILE, read_known, write_known


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
    write_known(buffer.getvalue(), path)


def load(path: Path, threads: int = 1, trust: bool = False) -> Runner:
    """The program as a function of the images.

    ``threads`` has no effect here: PyTorch's threads belong to the process, so the benchmark sets
    them around its calls. Raises UserError on a file from elsewhere, unless ``trust``.
    """
    contents = io.BytesIO(read_known(path, trust))
    with _without_deprecation():
        program = torch.jit.load(contents, map_location="cpu")
    return torch_runner(program)


@contextmanager
def _without_deprecation() -> Iterator[None]:
    """The user chose a format that our documentation calls legacy: one warning a call is noise."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", message=r"`torch\.jit", category=category)
        yield
