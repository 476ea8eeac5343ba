"""Memory of a piece of work: PyTorch's allocations, and what the process keeps resident."""

from __future__ import annotations

import json
import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile

_MIB = 2**20


def peak_bytes(run: Callable[[], object]) -> int:
    """Largest sum of live bytes that PyTorch allocates on the CPU while ``run()`` runs.

    What was alive before does not count; freeing it counts negative.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = [e for e in events if e["name"] == "[memory]" and e["args"]["Device Type"] == 0]
    live = peak = 0
    for event in sorted(changes, key=lambda e: e["ts"]):
        live += event["args"]["Bytes"]
        peak = max(peak, live)
    return peak


def resident_growth(prepare: Callable[..., Callable[[], object]], *args: Any) -> float:
    """MiB by which the resident memory of a fresh process grows, at its peak, in ``prepare``'s run.

    ``prepare(*args)`` makes what is there before (such as the weights) and returns the run. Linux.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_resident_growth, prepare, args).result()


def _resident_growth(prepare: Callable[..., Callable[[], object]], args: tuple[Any, ...]) -> float:
    run = prepare(*args)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again at the present size
    run()
    return (_status("VmHWM") - before) / _MIB


def _status(key: str) -> int:
    """Bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {key}")
