"""How long an exported file takes, and which of its operators."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fpnas.errors import UserError
from fpnas.export import onnx
from fpnas.export.formats import EXPORT_FORMATS, ExportFormat
from fpnas.utils.machine import benchmark


@dataclass(frozen=True)
class FileTiming:
    """Wall time of one call with one batch, milliseconds."""

    file: Path
    format: str
    threads: int
    median_ms: float
    p90_ms: float


def time_file(
    file: Path, threads: int = 1, warmup: int = 10, runs: int = 100, trust: bool = False
) -> FileTiming:
    """Time ``file`` on noise of the shape that it was exported with, all its outputs.

    Raises UserError if it is no exported file, or if its runtime is missing, or, unless ``trust``,
    if it may run code and was not exported on this machine.
    """
    entry = format_of(file)
    images = _noise(entry, file)
    # An ONNX file may be of a backbone or a detector, whose outputs are no logits.
    trusting = {"trust": trust} if entry.may_run_code else {}
    with _naming(file, entry):
        if entry.load is onnx.load:
            call = onnx.load_outputs(file, None, threads)
        else:
            call = entry.load(file, threads, **trusting)
    found = benchmark(call, images, warmup, runs, threads, max_seconds=60.0)
    return FileTiming(file, entry.name, threads, found.median_ms, found.p90_ms)


def format_of(file: Path) -> ExportFormat:
    """The export format of a file, by the ending of its name.

    Raises UserError if there is no such file or ending, or if its runtime is not on this machine.
    """
    if not file.is_file():
        raise UserError(f"'{file}' does not exist or is no file.")
    # "x.int8.onnx" ends like an ONNX file, too: the longest ending is meant.
    for entry in sorted(EXPORT_FORMATS.values(), key=lambda e: len(e.suffix), reverse=True):
        if file.name.endswith(entry.suffix):
            missing = entry.missing_modules()
            if missing:
                raise UserError(
                    f"'{file}' needs {', '.join(missing)}: pip install 'fpnas[{entry.extra}]'."
                )
            if entry.elsewhere:
                raise UserError(f"'{file}' cannot be run on this machine: {entry.elsewhere}.")
            return entry
    endings = ", ".join(entry.suffix for entry in EXPORT_FORMATS.values())
    raise UserError(f"'{file}' is no exported file; their names end in {endings}.")


def profile_operators(file: Path, runs: int = 100, top: int = 10) -> list[tuple[str, float, int]]:
    """``(operator, share of the time, nodes)`` of the ``top`` operators of an ONNX file, 1 thread.

    Raises UserError on a file of another format.
    """
    entry = format_of(file)
    if entry.load is not onnx.load:
        raise UserError(f"Operators are shown of ONNX files only; '{file}' is {entry.name}.")
    images = _noise(entry, file)
    with tempfile.TemporaryDirectory() as folder:
        options = onnx.session_options(threads=1)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnx.session(file, options)
        for _ in range(runs):
            session.run(None, {onnx.INPUT: images})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    kernels = [e for e in events if e.get("name", "").endswith("_kernel_time")]
    times: Counter[str] = Counter()
    nodes: dict[str, set[str]] = {}
    for event in kernels:
        operator = event["args"]["op_name"]
        times[operator] += event["dur"]
        nodes.setdefault(operator, set()).add(event["name"])
    total = max(sum(times.values()), 1)
    return [(name, time / total, len(nodes[name])) for name, time in times.most_common(top)]


def _noise(entry: ExportFormat, file: Path) -> np.ndarray:
    """A batch of the shape and dtype that the metadata of ``file`` tells."""
    with _naming(file, entry):
        metadata = entry.read_metadata(file)
    if "input" not in metadata:
        raise UserError(f"'{file}' was not written by 'fpnas export': it has no metadata 'input'.")
    described = json.loads(metadata["input"])
    generator = np.random.default_rng(0)
    if described["dtype"] == "uint8":
        return generator.integers(0, 256, described["shape"], dtype=np.uint8)
    return generator.standard_normal(described["shape"], dtype=np.float32)


@contextlib.contextmanager
def _naming(file: Path, entry: ExportFormat) -> Iterator[None]:
    """Name ``file`` in what runtimes raise; a damaged one makes them raise whatever they like."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"'{file}' cannot be read as {entry.name}: {error}") from None
