"""What became of each format: a record, a table for people and a JSON file for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from fpnas.errors import UserError
from fpnas.utils.file_io import atomic_write


@dataclass(frozen=True)
class ExportReport:
    """Result of one format. Numbers that were not measured are None.

    ``status``: ``ok``; ``unverified`` (written, but the images could not show that it is right);
    ``failed`` or ``not installed`` (no file). ``message`` says why it is not ``ok``, or remarks on
    the file, such as its speed against float32.
    ``max_rel_error`` and ``top1_agreement`` (%) as in :class:`fpnas.export.parity.Parity`.
    ``accuracy``: top-1 accuracy of the file in its runtime, %, if labels were given.
    ``ms_1_thread``, ``ms_2_threads``: median milliseconds of a call with one batch.
    ``usage``: a line of Python that runs the file.
    ``accelerators``: of phones, and whether they take the graph, see
    :func:`fpnas.export.onnx.accelerators`.
    """

    format: str
    status: str
    message: str = ""
    file: Path | None = None
    size_bytes: int | None = None
    max_rel_error: float | None = None
    top1_agreement: float | None = None
    accuracy: float | None = None
    ms_1_thread: float | None = None
    ms_2_threads: float | None = None
    usage: str = ""
    accelerators: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The record with the keys of export.json; numbers that are not finite become None."""
        return {
            "format": self.format,
            "file": str(self.file) if self.file else None,
            "size_bytes": self.size_bytes,
            "max_rel_error": _finite(self.max_rel_error),
            "top1_agreement": _finite(self.top1_agreement),
            "accuracy": _finite(self.accuracy),
            "ms": self.ms_1_thread,
            "ms_2_threads": self.ms_2_threads,
            "status": self.status,
            "message": self.message,
            "usage": self.usage,
            "accelerators": dict(self.accelerators),
        }


def table(reports: Sequence[ExportReport]) -> str:
    """The reports as a text table, one row a format.

    Below follow messages, what accelerators of phones think of the files, and the lines of Python
    that run them.
    """
    rows = [
        {
            "format": report.format,
            "file": report.file.name if report.file else "-",
            "MB": _cell(report.size_bytes and report.size_bytes / 1e6, ".2f"),
            "max rel. error": _cell(report.max_rel_error, ".1e"),
            "top-1 agreement %": _cell(report.top1_agreement, ".1f"),
            "accuracy %": _cell(report.accuracy, ".2f"),
            "ms, 1 thread": _cell(report.ms_1_thread, ".2f"),
            "ms, 2 threads": _cell(report.ms_2_threads, ".2f"),
            "status": report.status,
        }
        for report in reports
    ]
    align = ["left", "left", *["right"] * 6, "left"]
    lines = [tabulate(rows, headers="keys", colalign=align, disable_numparse=True)]
    formats_by_message: dict[str, list[str]] = {}
    for report in reports:
        if report.message:
            formats_by_message.setdefault(report.message, []).append(report.format)
    lines += [f"{', '.join(names)}: {message}" for message, names in formats_by_message.items()]
    for report in reports:
        if report.accelerators:
            lines.append(f"{report.format} on phones: {accelerators_text(report.accelerators)}")
    lines += [f"{report.format}: {report.usage}" for report in reports if report.usage]
    return "\n".join(lines)


def accelerators_text(verdicts: Mapping[str, str]) -> str:
    """The verdicts of :func:`fpnas.export.onnx.accelerators`: ``NNAPI yes, CoreML no (TopK)``."""
    return ", ".join(f"{name} {said}" for name, said in verdicts.items())


def write_json(reports: Sequence[ExportReport], path: Path) -> None:
    """Write the list of records to ``path``, which is either complete or as it was before.

    Raises UserError if it cannot be written.
    """
    text = json.dumps([r.to_dict() for r in reports], indent=2, allow_nan=False)
    try:
        with atomic_write(path) as file:
            file.write(f"{text}\n".encode())
    except OSError as error:
        raise UserError(f"Cannot write '{path}': {error.strerror}.") from None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _cell(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)
