"""Cost functions: what architectures cost, and the range of cost of a space."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fpnas.errors import BudgetError, UserError
from fpnas.spaces.space import SearchSpace

# cost(choices[K, V]) -> [K]: FLOPs, params, milliseconds, ...; any real dtype, lower is cheaper.
CostFunction = Callable[[Tensor], Tensor]

NUM_PROBES = 256  # uniform samples that are looked at before a target is called unreachable

_EXHAUSTIVE = 2**14  # spaces up to this size are enumerated to find their range of cost
_RANDOM_STARTS = 4


def evaluate_cost(cost: CostFunction, choices: Tensor) -> Tensor:
    """``cost(choices)`` as float64 [K]. Raises UserError on a wrong shape and on NaN."""
    costs = torch.as_tensor(cost(choices))
    if costs.shape != (len(choices),):
        raise UserError(
            f"cost(choices) must return one number for each of {len(choices)} architectures, "
            f"found shape {tuple(costs.shape)}."
        )
    costs = costs.detach().double()
    if costs.isnan().any():
        row = choices[costs.isnan().nonzero()[0, 0]].tolist()
        raise UserError(f"cost(choices) is NaN for the architecture {row}.")
    return costs


def folded(costs: Tensor, target: float, floor: float) -> Tensor:
    """``costs``, those below ``floor`` mirrored over the band from floor to target.

    What misses the floor by some amount exceeds the target by it, so one rule keeps both.
    """
    return torch.where(costs < floor, target + floor - costs, costs)


def checked_target(space: SearchSpace, cost: CostFunction | None, target: float | None) -> float:
    """``target``, or inf if it is None.

    Raises UserError on one without a cost function, else as :func:`check_reachable`.
    """
    if target is None:
        return math.inf
    if cost is None:
        raise UserError(f"A target ({target}) needs a cost function; found cost=None.")
    check_reachable(space, cost, float(target))
    return float(target)


def check_reachable(space: SearchSpace, cost: CostFunction, target: float) -> None:
    """Raise UserError unless ``target`` is positive, BudgetError unless something costs no more."""
    if not (math.isfinite(target) and target > 0):
        raise UserError(f"The target cost must be a positive number, found {target}.")
    # Uniform samples settle nearly every sensible target at once.
    probes = space.sample(NUM_PROBES, torch.Generator().manual_seed(0))
    if not (evaluate_cost(cost, probes) <= target).any():
        lowest, highest = cost_range(space, cost)
        if lowest > target:
            raise unreachable(target, 0.0, lowest, highest)


def cost_range(space: SearchSpace, cost: CostFunction) -> tuple[float, float]:
    """The smallest and the largest cost found in the space.

    Exact for spaces of up to 2^14 architectures; otherwise by coordinate descent and ascent from a
    few starts, exact when cost rises or falls in each variable by itself.
    """
    if space.num_architectures <= _EXHAUSTIVE:
        axes = [torch.arange(c) for c in space.cardinalities]
        costs = evaluate_cost(cost, torch.cartesian_prod(*axes).reshape(-1, len(axes)))
        return float(costs.min()), float(costs.max())
    lowest = min(_descend(space, cost, start, sign=1) for start in _starts(space))
    highest = max(-_descend(space, cost, start, sign=-1) for start in _starts(space))
    return lowest, highest


def _starts(space: SearchSpace) -> list[Tensor]:
    ends = torch.stack([torch.zeros_like(c := torch.tensor(space.cardinalities)), c - 1])
    random = space.sample(_RANDOM_STARTS, torch.Generator().manual_seed(0))
    return list(torch.cat([ends, random]))


def _descend(space: SearchSpace, cost: CostFunction, start: Tensor, sign: int) -> float:
    """Smallest ``sign * cost`` that single changes reach from ``start``."""
    current, lowest = start, math.inf
    while True:
        around = neighbours(current, space.cardinalities)
        costs = sign * evaluate_cost(cost, around)
        k = int(costs.argmin())
        if not float(costs[k]) < lowest:
            return lowest
        current, lowest = around[k], float(costs[k])


def neighbours(row: Tensor, sizes: Sequence[int]) -> Tensor:
    """All rows that differ from ``row`` in at most one entry, int64 [sum(sizes), len(sizes)]."""
    changed = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    rows = row.repeat(len(changed), 1)
    rows[torch.arange(len(changed)), changed] = torch.cat([torch.arange(n) for n in sizes])
    return rows


def unreachable(target: float, floor: float, lowest: float, highest: float) -> BudgetError:
    least = f" and of at least {floor:,.6g}" if floor else ""
    return BudgetError(
        f"No architecture was found within the target cost {target:,.6g}{least}; "
        f"costs in this space range from {lowest:,.6g} to {highest:,.6g}."
    )
