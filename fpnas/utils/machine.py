"""This machine: what it is, and how long a call takes on it."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import torch
from tabulate import tabulate


def environment_info() -> str:
    """A short table of what determines speed and numerics: versions, processors, threads."""
    rows = [
        ("platform", platform.platform()),
        ("python", sys.version.split()[0]),
        *((name, _version(name)) for name in ("fpnas", "torch", "torchvision", "numpy", "fvcore")),
        ("cpu", cpu_info()),
        ("torch threads", str(torch.get_num_threads())),
        ("cpu capability", torch.backends.cpu.get_cpu_capability()),
    ]
    for index in range(torch.cuda.device_count()):
        rows.append((f"gpu {index}", torch.cuda.get_device_name(index)))
    return tabulate(rows, tablefmt="plain")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed as a package"


def cpu_info() -> str:
    """Model and number of logical processors of this machine."""
    model = ""
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:  # Linux has it
        names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        model = next(names, "")
    return f"{model or platform.processor() or platform.machine()}, {os.cpu_count()} logical"


@dataclass(frozen=True)
class Latency:
    """Wall time of a call, milliseconds."""

    median_ms: float
    p90_ms: float
    runs: int
    threads: int


def benchmark(
    run: Callable[[Any], Any],
    images: Any,
    warmup: int = 5,
    runs: int = 50,
    threads: int = 1,
    max_seconds: float = 5.0,
) -> Latency:
    """Time ``run(images)`` ``runs`` times after ``warmup`` calls that do not count.

    PyTorch computes with ``threads`` threads meanwhile. A runtime with threads of its own (ONNX
    Runtime) must have been set to the same number when ``run`` was made.

    Warm-up and timing each end early, after at least one call, when ``max_seconds`` are over: a
    busy machine can make a call with several threads a hundred times slower.
    """
    if runs < 1 or warmup < 0:
        raise ValueError(f"needs at least one run and no negative warm-up, got {runs}, {warmup}")
    with torch_threads(threads):
        _times(run, images, warmup, max_seconds)
        times = _times(run, images, runs, max_seconds)
    return Latency(
        1e3 * statistics.median(times),
        # The nearest rank: a time that was really measured.
        1e3 * float(np.percentile(times, 90, method="inverted_cdf")),
        len(times),
        threads,
    )


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let PyTorch compute with ``threads`` threads, then with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _times(run: Callable[[Any], Any], images: Any, calls: int, max_seconds: float) -> list[float]:
    """Seconds of each call."""
    times: list[float] = []
    while len(times) < calls and sum(times) < max_seconds:
        start = time.perf_counter()
        run(images)
        times.append(time.perf_counter() - start)
    return times
