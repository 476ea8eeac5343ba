"""Exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def build_ema(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of ``model`` that becomes its average: ``ema.update_parameters(model)`` every step.

    The n-th update after the first has the decay ``min(decay, (1 + n) / (10 + n))``. So the average
    spans about the last tenth of a short training, instead of remembering its random start, and is
    the usual one with ``decay`` from step ``(10 decay - 1) / (1 - decay)`` on (89,990 for 0.9999).

    The statistics of BatchNorm are averaged like the weights, integer counters are copied.
    """
    return AveragedModel(model, multi_avg_fn=_averaging(decay), use_buffers=True)


def decay_at(decay: float, num_averaged: int) -> float:
    """The decay of the update that follows ``num_averaged`` earlier ones."""
    return min(decay, (1 + num_averaged) / (10 + num_averaged))


def _averaging(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor | int], None]:
    def update(averages: list[Tensor], values: list[Tensor], num_averaged: Tensor | int) -> None:
        if averages[0].is_floating_point():
            average = get_ema_multi_avg_fn(decay_at(decay, int(num_averaged)))
            average(averages, values, num_averaged)
        else:
            torch._foreach_copy_(averages, values)

    return update
