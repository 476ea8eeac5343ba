"""The expected cost of a factorised distribution over networks, exact and differentiable."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fpnas.search.budget import Cost, evaluate_cost
from fpnas.spaces import NetworkSpace


class ExpectedCost:
    """E[cost] when every search variable is drawn by itself, from its probabilities.

    A network's cost is a sum over its block groups, each of which depends on its own choices and on
    the channels that enter it. A table of each group's share for all of these, contracted with the
    probabilities, is therefore the exact expectation.

    Args:
        space: what is searched; at most a few ten thousand rows for each group are evaluated.
        cost: ``cost(choices[K, V]) -> [K]``, a sum over blocks such as ``space.flops``.
    """

    def __init__(self, space: NetworkSpace, cost: Cost) -> None:
        base = torch.zeros(1, len(space.variables), dtype=torch.int64)
        self._constant = evaluate_cost(cost, base)[0]
        self._columns = space.group_columns
        # Column of the channels that enter each group; None: those of the stem.
        channels = [
            columns[[v.name for v in group.variables].index("channels")]
            for group, columns in zip(space.groups, space.group_columns, strict=True)
        ]
        self._entering = [None, *channels[:-1]]
        self._tables = [
            _group_table(space, cost, columns, entering)
            for columns, entering in zip(self._columns, self._entering, strict=True)
        ]

    def __call__(self, probabilities: Sequence[Tensor]) -> Tensor:
        """The expectation, a float64 scalar, for the probabilities [values] of each variable."""
        total = self._constant
        for table, columns, entering in zip(
            self._tables, self._columns, self._entering, strict=True
        ):
            for column in reversed(columns):
                table = table @ probabilities[column].double()
            total = total + (
                table[0] if entering is None else table @ probabilities[entering].double()
            )
        return total


def _group_table(
    space: NetworkSpace, cost: Cost, columns: Sequence[int], entering: int | None
) -> Tensor:
    """What a group's choices add to the cost of choosing 0 in it and in all later groups.

    float64 [entering channels, values of the group's first variable, ..., of its last]
    """
    sizes = [space.cardinalities[column] for column in columns]
    entries = 1 if entering is None else space.cardinalities[entering]
    grid = torch.cartesian_prod(torch.arange(entries), *(torch.arange(n) for n in sizes))
    rows = torch.zeros(len(grid), len(space.variables), dtype=torch.int64)
    if entering is not None:
        rows[:, entering] = grid[:, 0]
    first = rows[:: len(grid) // entries]
    without = evaluate_cost(cost, first)
    rows[:, list(columns)] = grid[:, 1:]
    return (evaluate_cost(cost, rows) - without[grid[:, 0]]).view(entries, *sizes)
