"""Scalars of a run: :class:`EventStorage` holds them, the writers put them where they are read.

A trainer's step and its hooks put them by ``trainer.storage.put_scalar(...)``.
Iterations count from 0: iteration i is the step that turns i finished steps into i + 1.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from fvcore.common.history_buffer import HistoryBuffer
from torch import Tensor
from tqdm import tqdm

from fpnas.errors import ConfigError
from fpnas.utils.file_io import atomic_write
from fpnas.utils.logger import PROGRESS_RECORD

# Values that a history keeps for medians; metrics.json goes back to the start.
_HISTORY_LENGTH = 1000
# Those that a line of the console is about.
_WINDOW = 20


class EventStorage:
    """The scalars of a run by name, with the iteration at which each was put.

    Attributes:
        iter: the current iteration, which the trainer keeps up to date.
    """

    def __init__(self, start_iter: int = 0) -> None:
        self.iter = start_iter
        self._latest: dict[str, tuple[float | int, int]] = {}
        self._histories: dict[str, HistoryBuffer] = {}

    def put_scalar(self, name: str, value: float | int | Tensor) -> None:
        """Record ``value`` (a number or a tensor of one element) for the current iteration."""
        number = value.item() if hasattr(value, "item") else value
        number = number if type(number) is int else float(number)
        self._latest[name] = (number, self.iter)
        if name not in self._histories:
            self._histories[name] = HistoryBuffer(_HISTORY_LENGTH)
        self._histories[name].update(number, self.iter)

    def put_scalars(self, **scalars: float | int | Tensor) -> None:
        """Record several scalars. Other names than identifiers: ``put_scalars(**{"a/b": 1.0})``."""
        for name, value in scalars.items():
            self.put_scalar(name, value)

    def latest(self) -> Mapping[str, tuple[float | int, int]]:
        """The newest ``(value, iteration)`` of every name, in the order of their first putting."""
        return self._latest

    def history(self, name: str) -> HistoryBuffer:
        """The last 1000 values of ``name`` put by this process. KeyError if there is none."""
        if name not in self._histories:
            raise KeyError(f"No scalar '{name}' was put; there are: {', '.join(self._histories)}.")
        return self._histories[name]

    def state_dict(self) -> dict[str, Any]:
        """The latest scalars. Those that no writer has written yet must survive a kill."""
        return {"latest": {name: list(entry) for name, entry in self._latest.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the latest scalars of :meth:`state_dict`."""
        self._latest = {name: (value, it) for name, (value, it) in state["latest"].items()}


class EventWriter:
    """Writes the scalars of a storage somewhere. The hook ``PeriodicWriter`` calls the methods."""

    def start(self, storage: EventStorage) -> None:
        """Called once, before iteration ``storage.iter`` (0, or where a resumed run goes on)."""

    def write(self, storage: EventStorage) -> None:
        """Called when there may be new scalars."""
        raise NotImplementedError

    def close(self) -> None:
        """Called at the end, also after an error, also if :meth:`start` was never called."""


class JSONWriter(EventWriter):
    """One line of JSON an iteration: ``{"iteration": 19, "loss": 2.1, "lr": 0.1}``.

    A line has the scalars put since the last write, as they were put; NaN and infinities become
    null. Every iteration has at most one line: at the start the lines of iterations that are about
    to be run (again) are dropped, and a scalar that comes after the line of its iteration was
    written joins the next line.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: IO[str] | None = None
        self._last_line = -1
        self._written: dict[str, int] = {}  # name -> iteration of the scalar last written

    def start(self, storage: EventStorage) -> None:
        """Drop the lines of iterations >= ``storage.iter``, and a line cut off by a kill."""
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        kept = []
        for line in text.splitlines(keepends=True):
            record = _parse_record(line)
            if record is not None and record["iteration"] < storage.iter:
                kept.append(line)
                self._last_line = record.pop("iteration")
                self._written.update(dict.fromkeys(record, self._last_line))
        if "".join(kept) != text:
            with atomic_write(self.path) as file:
                file.write("".join(kept).encode())
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, storage: EventStorage) -> None:
        """Append a line for every iteration with new scalars, and flush."""
        assert self._file is not None, "start() comes before write()"
        lines: dict[int, dict[str, float | int | None]] = {}
        for name, (value, iteration) in storage.latest().items():
            if iteration > self._written.get(name, -1):
                line = lines.setdefault(max(iteration, self._last_line + 1), {})
                line[name] = value if math.isfinite(value) else None
                self._written[name] = iteration
        for iteration in sorted(lines):
            self._file.write(json.dumps({"iteration": iteration, **lines[iteration]}) + "\n")
            self._last_line = iteration
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _parse_record(line: str) -> dict[str, Any] | None:
    """The record in a complete line of metrics.json, else None."""
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    complete = line.endswith("\n") and isinstance(record, dict)
    return record if complete and isinstance(record.get("iteration"), int) else None


class TensorBoardWriter(EventWriter):
    """Every scalar as a TensorBoard curve, in event files in ``log_dir``."""

    def __init__(self, log_dir: str | Path) -> None:
        self._log_dir = str(log_dir)
        self._writer: Any = None
        self._last_write = -1

    def start(self, storage: EventStorage) -> None:
        """Open the event file. Points of a run that is about to be repeated are hidden."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ConfigError(
                "LOG.TENSORBOARD is True, but the package tensorboard is not installed: "
                "'pip install tensorboard', or set LOG.TENSORBOARD False."
            ) from None
        self._writer = SummaryWriter(self._log_dir, purge_step=storage.iter)

    def write(self, storage: EventStorage) -> None:
        newest = self._last_write
        for name, (value, iteration) in storage.latest().items():
            if iteration > self._last_write:
                self._writer.add_scalar(name, value, iteration)
                newest = max(newest, iteration)
        self._last_write = newest

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class MetricPrinter(EventWriter):
    """A log line with the ETA, the losses, further ``names``, time and data_time (s), and lr.

    Scalars whose name contains "loss", and times, are medians over the last 20 values.
    On a terminal the line goes to log.txt only: there :class:`ProgressBar` shows the progress.
    """

    def __init__(self, max_iter: int, names: Iterable[str] = ()) -> None:
        self._max_iter = max_iter
        self._names = tuple(names)
        self._logger = logging.getLogger(__name__)
        self._start_iter = self._last_done = 0
        self._start_time = 0.0

    def start(self, storage: EventStorage) -> None:
        self._start_iter = self._last_done = storage.iter
        self._start_time = time.perf_counter()

    def write(self, storage: EventStorage) -> None:
        """Log one line, if there was a step since the last one."""
        done = storage.iter + 1
        if done <= self._last_done or done > self._max_iter:
            return
        self._last_done = done
        seconds = time.perf_counter() - self._start_time
        remaining = seconds / (done - self._start_iter) * (self._max_iter - done)
        parts = [
            f"eta: {timedelta(seconds=round(remaining))}",
            f"iter: {done}/{self._max_iter}",
            *_progress_values(storage, self._names),
        ]
        self._logger.info("  ".join(parts), extra=PROGRESS_RECORD)


class ProgressBar(EventWriter):
    """A bar with rate, ETA and losses, on a terminal; nothing elsewhere. Write it every step."""

    def __init__(self, max_iter: int, names: Iterable[str] = ()) -> None:
        self._max_iter = max_iter
        self._names = tuple(names)
        self._bar: tqdm | None = None

    def start(self, storage: EventStorage) -> None:
        """Show the bar, with the steps of a resumed run filled in."""
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=self._max_iter, initial=storage.iter, unit="step", dynamic_ncols=True
            )

    def write(self, storage: EventStorage) -> None:
        if self._bar is not None:
            values = _progress_values(storage, self._names, with_times=False)
            self._bar.set_postfix_str("  ".join(values), refresh=False)
            self._bar.update(min(storage.iter + 1, self._max_iter) - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _progress_values(
    storage: EventStorage, names: tuple[str, ...], with_times: bool = True
) -> list[str]:
    """``name: value`` of the losses, of ``names``, and of time, data_time and lr where put."""
    shown = []
    for name in storage.latest():
        if "loss" in name and name not in names:
            shown.append(f"{name}: {_median(storage, name):.4g}")
    latest = storage.latest()
    shown += [f"{name}: {latest[name][0]:.5g}" for name in names if name in latest]
    if with_times:
        for name in ("time", "data_time"):
            if name in latest:
                shown.append(f"{name}: {_median(storage, name):.4f}")
    if "lr" in latest and "lr" not in names:
        shown.append(f"lr: {latest['lr'][0]:.4g}")
    return shown


def _median(storage: EventStorage, name: str) -> float:
    """Median of the last 20 values; the latest if a resumed run has not put any yet."""
    try:
        return storage.history(name).median(_WINDOW)
    except KeyError:
        return storage.latest()[name][0]
