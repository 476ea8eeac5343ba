"""Random architectures of a space that cost about the same."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fpnas.errors import BudgetError
from fpnas.search.costs import CostFunction
from fpnas.spaces import NetworkSpace

_BLOCK = 64  # architectures drawn at once
_MAX_EMPTY_BLOCKS = 8000  # without one in range


def uniform_within(
    space: NetworkSpace, cost: CostFunction, low: float, high: float, generator: torch.Generator
) -> Iterator[Tensor]:
    """Endless choices [V], uniform among those of the space that cost ``low`` to ``high``.

    Raises BudgetError if it finds none for a long time.
    """
    empty = 0
    while empty < _MAX_EMPTY_BLOCKS:
        choices = space.sample(_BLOCK, generator)
        costs = cost(choices)
        accepted = choices[(low <= costs) & (costs <= high)]
        empty = 0 if len(accepted) else empty + 1
        yield from accepted
    raise BudgetError(
        f"None of {_BLOCK * empty} random architectures of {space.name} costs {low:.6g} to "
        f"{high:.6g}; choose another target."
    )
