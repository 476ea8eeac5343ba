"""ExecuTorch: a ``.pte`` program for phones, lowered to XNNPACK.

A file lists calls of the kernels that the runtime was built with, and their constants. It has no
code of its own and no pickles, so that it is loaded from anywhere.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from fpnas.export.source import ExportSource, Runner

# A method that returns the metadata: ExecuTorch keeps constants as methods.
METADATA_METHOD = "metadata"


def export(source: ExportSource, path: Path) -> None:
    """Write ``path``. Its one method ``forward`` takes the images and returns the logits."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    program = source.program()
    text = json.dumps(dict(source.metadata)).encode()
    lowered = to_edge_transform_and_lower(
        program,
        partitioner=[XnnpackPartitioner()],
        constant_methods={METADATA_METHOD: torch.tensor(list(text), dtype=torch.uint8)},
    )
    path.write_bytes(lowered.to_executorch().buffer)


def load(path: Path, threads: int = 1) -> Runner:
    """The program in ExecuTorch's Python runtime, as a function of the images.

    ``threads`` has no effect: the runtime's thread pool belongs to the process.
    """
    method = _program(path).load_method("forward")

    def run(images: np.ndarray) -> np.ndarray:
        return method.execute([torch.from_numpy(images)])[0].numpy()

    return run


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata that :func:`export` wrote."""
    [text] = _program(path).load_method(METADATA_METHOD).execute([])
    return json.loads(bytes(text.tolist()))


def _program(path: Path):
    from executorch.runtime import Runtime

    return Runtime.get().load_program(str(path))
