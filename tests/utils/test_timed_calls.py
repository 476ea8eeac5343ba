from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from fpnas.utils import machine
from fpnas.utils.machine import benchmark, torch_threads


def with_durations(monkeypatch, seconds: list[float]) -> Callable[[object], None]:
    """A function whose calls take ``seconds``, one after the other, on a clock of our own."""
    durations, clock = iter(seconds), [0.0]
    monkeypatch.setattr(machine.time, "perf_counter", lambda: clock[0])

    def run(_: object) -> None:
        clock[0] += next(durations)

    return run


def test_median_and_p90_of_known_times(monkeypatch):
    # Seconds: two warm-up calls, then 1 to 10.
    run = with_durations(monkeypatch, [9.0, 9.0, *range(1, 11)])
    result = benchmark(run, None, warmup=2, runs=10, max_seconds=1000)
    assert (result.median_ms, result.p90_ms, result.runs) == (5500.0, 9000.0, 10)


def test_slow_calls_end_the_measurement_early(monkeypatch):
    run = with_durations(monkeypatch, [3.0] * 5)
    assert benchmark(run, None, warmup=9, runs=9, max_seconds=4).runs == 2
    assert benchmark(run, None, warmup=0, runs=9, max_seconds=1).runs == 1


def test_threads_are_set_during_the_calls_and_restored():
    before = torch.get_num_threads()
    seen = []
    benchmark(lambda _: seen.append(torch.get_num_threads()), None, 1, 2, threads=before + 1)
    assert seen == [before + 1] * 3
    assert torch.get_num_threads() == before


def test_threads_are_restored_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), torch_threads(before + 1):
        raise ZeroDivisionError
    assert torch.get_num_threads() == before


def test_slower_function_measures_slower():
    def spin(seconds: float) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass

    fast, slow = benchmark(spin, 1e-4, 0, 5), benchmark(spin, 4e-3, 0, 5)
    assert 0.1 <= fast.median_ms < slow.median_ms
    assert slow.median_ms >= 4


def test_no_runs_is_an_error():
    with pytest.raises(ValueError):
        benchmark(lambda _: None, None, runs=0)
