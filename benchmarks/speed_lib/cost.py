"""How long the analytic cost of many architectures takes."""

from __future__ import annotations

import torch

from fpnas.spaces import get_space
from speed_lib.rounds import CPU_ONE_THREAD, WALL_TWO_THREADS, interleave, quartiles


def measure(space_name: str, architectures: int, rounds: int) -> dict[str, float]:
    """``cost_seconds_*``: CPU time of FLOPs and params of that many random architectures.

    ``cost_seconds_wall2_*``: wall time with two threads.
    """
    space = get_space(space_name)
    choices = space.sample(architectures, torch.Generator().manual_seed(0))
    figures: dict[str, float] = {}
    for key, clock in (
        ("cost_seconds", CPU_ONE_THREAD),
        (f"cost_seconds_{WALL_TWO_THREADS.label}", WALL_TWO_THREADS),
    ):
        times = interleave({"cost": lambda: space.flops(choices)}, rounds, clock)
        figures |= quartiles(key, times["cost"])
    return figures
