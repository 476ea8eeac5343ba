"""The average of weights and BatchNorm statistics."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fpnas.solver import build_ema
from fpnas.solver.optimizer import decay_at


def run(decay: float, steps: int) -> tuple[list[float], float]:
    """Values that one weight takes, and their average."""
    model = nn.Linear(1, 1, bias=False)
    ema = build_ema(model, decay)
    values = [float((7 * step) % 5) for step in range(steps)]
    for value in values:
        nn.init.constant_(model.weight, value)
        ema.update_parameters(model)
    return values, ema.module.weight.item()


@pytest.mark.parametrize(("decay", "steps"), [(0.9, 40), (0.9999, 60), (0.2, 1)])
def test_closed_form(decay, steps):
    values, found = run(decay, steps)
    expected = values[0]
    for n, value in enumerate(values[1:], start=1):
        d = min(decay, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * value
    assert found == pytest.approx(expected, rel=1e-5)


def test_decay_warms_up_and_stops_at_its_limit():
    assert decay_at(0.9999, 1) == pytest.approx(2 / 11)
    assert decay_at(0.9999, 89_988) < 0.9999
    assert decay_at(0.9999, 89_990) == 0.9999
    # Nothing is left of the start after a short run.
    remembered = 1.0
    for n in range(1, 301):
        remembered *= decay_at(0.9999, n)
    assert remembered < 1e-6


def test_batchnorm_statistics_are_averaged_and_counters_copied():
    model = nn.BatchNorm2d(2)
    ema = build_ema(model, 0.9)
    for mean in (0.0, 11.0):
        model.running_mean.fill_(mean)
        model.num_batches_tracked += 7
        ema.update_parameters(model)
    assert ema.module.running_mean.tolist() == pytest.approx([9.0, 9.0])  # 11 * (1 - 2 / 11)
    assert ema.module.num_batches_tracked == 14


def test_memory_format_and_modes_of_the_model_are_kept():
    model = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)
    ema = build_ema(model, 0.9)
    ema.update_parameters(model)
    assert ema.module.weight.is_contiguous(memory_format=torch.channels_last)
    assert ema.module.weight.data_ptr() != model.weight.data_ptr()
