"""PT2: the program of torch.export, PyTorch's successor of TorchScript.

Loading a file may run code, see :mod:`fpnas.export.trusted`.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch

from fpnas.export.source import ExportSource, Runner, torch_runner
from fpnas.export.trusted import METADATA_FILE, read_known, write_known


def export(source: ExportSource, path: Path) -> None:
    """Write the exported program to ``path``, metadata as the extra file ``metadata.json``."""
    program = source.program()
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names local paths
    extra = {METADATA_FILE: json.dumps(dict(source.metadata))}
    buffer = io.BytesIO()  # PyTorch's own file writer aborts the process on a full disk
    torch.export.save(program, buffer, extra_files=extra)
    write_known(buffer.getvalue(), path)


def load(path: Path, threads: int = 1, trust: bool = False) -> Runner:
    """The program as a function of the images; ``threads`` as in the torchscript module.

    Raises UserError on a file from elsewhere, unless ``trust``.
    """
    program = torch.export.load(io.BytesIO(read_known(path, trust)))
    return torch_runner(program.module())
