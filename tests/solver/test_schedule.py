"""Schedules against closed forms."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpnas.config import get_cfg
from fpnas.solver import build_schedule


def factors(iters: int, **solver: object) -> list[float]:
    """The factor of every iteration of a run."""
    cfg = get_cfg()
    for key, value in solver.items():
        cfg.merge_from_list([f"SOLVER.{key}", str(value)])
    schedule = build_schedule(cfg, iters)
    total = cfg.SOLVER.EPOCHS * iters
    return [schedule(i / total) for i in range(total)]


def test_cosine():
    found = factors(7, SCHEDULE="cosine", EPOCHS=5, LR_END=0.1)
    assert found == pytest.approx(
        [0.1 + 0.9 * (1 + math.cos(math.pi * i / 35)) / 2 for i in range(35)]
    )


@given(st.integers(1, 40), st.integers(1, 60))
def test_exponential_falls_exactly_at_the_epochs(epochs, iters):
    found = factors(iters, SCHEDULE="exponential", EPOCHS=epochs, LR_DECAY=0.9875)
    assert found == [0.9875 ** (i // iters) for i in range(epochs * iters)]


def test_exponential_counts_iterations_of_a_run_of_millions():
    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.SCHEDULE", "exponential", "SOLVER.EPOCHS", "420"])
    schedule = build_schedule(cfg, 40_000)
    total = 420 * 40_000
    assert schedule((7 * 40_000 - 1) / total) == 0.9875**6
    assert schedule(7 * 40_000 / total) == 0.9875**7


def test_onecycle_is_torch_s():
    import torch

    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    total = 40
    # torch ends with its last step, we end one step later: hence total + 1.
    reference = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=total + 1, div_factor=25, final_div_factor=1e9,
        cycle_momentum=False, pct_start=13 / 41,
    )  # fmt: skip
    expected = []
    for _ in range(total):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    found = factors(10, SCHEDULE="onecycle", EPOCHS=4)
    assert found == pytest.approx(expected, abs=1e-6)
    assert max(found) == 1.0 and found.index(1.0) == 12


def test_constant():
    assert set(factors(3, SCHEDULE="constant", EPOCHS=2)) == {1.0}


@pytest.mark.parametrize("schedule", ["cosine", "exponential", "constant"])
def test_warm_up_rises_linearly_to_one_and_the_schedule_fills_the_rest(schedule):
    found = factors(10, SCHEDULE=schedule, EPOCHS=6, LR_WARMUP_EPOCHS=2.0, LR_WARMUP_FACTOR=0.2)
    assert found[:20] == pytest.approx([0.2 + 0.8 * i / 20 for i in range(20)])
    assert found[20:] == pytest.approx(factors(10, SCHEDULE=schedule, EPOCHS=4))


def test_warm_up_of_less_than_an_epoch():
    found = factors(10, SCHEDULE="constant", EPOCHS=1, LR_WARMUP_EPOCHS=0.5, LR_WARMUP_FACTOR=0.0)
    assert found == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1])
