"""Interleaved rounds: alternatives take turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fpnas.utils.machine import torch_threads

Times = dict[str, list[float]]


@dataclass(frozen=True)
class Clock:
    """How time is taken.

    Attributes:
        label: prefix of keys, e.g. "cpu1".
        now: seconds.
        threads: that PyTorch computes with meanwhile.
    """

    label: str
    now: Callable[[], float]
    threads: int


# CPU time hardly notices what else runs on the machine; wall time is what a user waits.
CPU_ONE_THREAD = Clock("cpu1", time.process_time, 1)
WALL_TWO_THREADS = Clock("wall2", time.perf_counter, 2)


def interleave(
    runs: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Clock,
    warmup: int = 1,
) -> Times:
    """Seconds of each of ``runs`` in each of ``rounds`` rounds; the order reverses every round."""
    times: Times = {name: [] for name in runs}
    with torch_threads(clock.threads):
        for _ in range(warmup):
            for run in runs.values():
                run()
        for i in range(rounds):
            order = list(runs) if i % 2 == 0 else list(reversed(runs))
            for name in order:
                start = clock.now()
                runs[name]()
                times[name].append(clock.now() - start)
    return times


def ratios(times: Times, numerator: str, denominator: str) -> list[float]:
    """The ratio in each round."""
    return [a / b for a, b in zip(times[numerator], times[denominator], strict=True)]


def quartiles(key: str, values: list[float]) -> dict[str, float]:
    """``{key_q1, key_median, key_q3}``."""
    q1, median, q3 = np.percentile(values, [25, 50, 75])
    return {f"{key}_q1": float(q1), f"{key}_median": float(median), f"{key}_q3": float(q3)}
