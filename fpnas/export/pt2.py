"""PT2: the program of torch.export, PyTorch's successor of TorchScript."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch

from fpnas.export.source import ExportSource, Runner, torch_runner

METADATA_FILE = "metadata.json"


def export(source: ExportSource, path: Path) -> None:
    """Write the exported program to ``path``, metadata as the extra file ``metadata.json``."""
    program = source.program()
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names local paths
    extra = {METADATA_FILE: json.dumps(dict(source.metadata))}
    buffer = io.BytesIO()  # PyTorch's own file writer aborts the process on a full disk
    torch.export.save(program, buffer, extra_files=extra)
    path.write_bytes(buffer.getbuffer())


def load(path: Path, threads: int = 1) -> Runner:
    """The program as a function of the images; ``threads`` as in the torchscript module."""
    return torch_runner(torch.export.load(str(path)).module())


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata that :func:`export` wrote."""
    extra = {METADATA_FILE: ""}
    torch.export.load(str(path), extra_files=extra)
    return json.loads(extra[METADATA_FILE])
