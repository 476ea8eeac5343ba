"""Costs as a chain of groups: passes along it that see all architectures of a space at once.

Where a cost is a :class:`~fpnas.spaces.CostTable`, a group depends on the groups in front of it
only through the channels that enter it. A pass that keeps one number for each of these replaces the
enumeration of the space: a maximum (Viterbi), or a sum, from which samples follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from fpnas.search.costs import CostFunction
from fpnas.search.distribution import ArchitectureDistribution
from fpnas.spaces import CostTable
from fpnas.spaces.space import SearchSpace

# What each combination of each group is worth, float64 [combinations of that group]; an
# architecture is worth the sum over its groups. The last variable of a group varies fastest.
Scores = Sequence[Tensor]

_BISECTIONS = 60
_DRAWS_A_ROUND = 64
_MAX_ROUNDS = 200


class _Link(NamedTuple):
    """A group, by the state that enters it, which stands for a number of channels."""

    costs: Tensor  # float64 [states, combinations]
    leaving: Tensor  # int64 [states, combinations], the state that leaves it
    values: Tensor  # int64 [combinations, variables], of the group's variables


class Path(NamedTuple):
    """An architecture, as one combination of each group."""

    combinations: tuple[int, ...]
    score: float
    cost: float

    def worth(self, price: float) -> float:
        """Score less price times cost."""
        return self.score - price * self.cost


class CostChain:
    """The costs of all architectures of a space, by group.

    Args:
        table: the cost; all of its cells are filled.

    Attributes:
        first: what there is in front of the first group.
        links: the groups.
        last: what follows the last group, float64 [states].
    """

    def __init__(self, table: CostTable) -> None:
        first, links, last = table.chain
        self.first = float(first)
        self.last = last.double()
        self.links = [self._link(costs, position) for costs, position in links]
        self._prices: dict[tuple[float, float], float] = {}

    @staticmethod
    def _link(costs: Tensor, position: int | None) -> _Link:
        sizes = costs.shape[1:]
        values = torch.cartesian_prod(*map(torch.arange, sizes)).reshape(-1, len(sizes))
        if position is None:  # the channels that leave are those that enter
            leaving = torch.arange(len(costs))[:, None].expand(-1, len(values))
        else:
            leaving = values[:, position].expand(len(costs), -1)
        return _Link(costs.flatten(1).double(), leaving.contiguous(), values)

    def choices(self, combinations: Tensor) -> Tensor:
        """Combinations int64 [K, G] as choices, int64 [K, V]."""
        groups = zip(self.links, combinations.unbind(1), strict=True)
        return torch.cat([link.values[own] for link, own in groups], dim=1)

    def values_to_go(self, scores: Scores, price: float) -> list[Tensor]:
        """The most that the rest of a network is worth: score less price times cost.

        Float64 [states], in front of each group and behind the last one.
        """
        return [values for values, _ in self._pass(scores, price)]

    def best(self, scores: Scores, price: float) -> Path:
        """The architecture that is worth the most at this price of a unit of cost."""
        state, combinations = 0, []
        for link, (_, best) in zip(self.links, self._pass(scores, price), strict=False):
            combinations.append(int(best[state]))
            state = int(link.leaving[state, combinations[-1]])
        return self.path(scores, combinations)

    def path(self, scores: Scores, combinations: Sequence[int]) -> Path:
        """The architecture of ``combinations`` [G]."""
        state, cost, score = 0, self.first, 0.0
        for link, own, combination in zip(self.links, scores, combinations, strict=True):
            cost += float(link.costs[state, combination])
            score += float(own[combination])
            state = int(link.leaving[state, combination])
        return Path(tuple(combinations), score, cost + float(self.last[state]))

    def _pass(self, scores: Scores, price: float) -> list[tuple[Tensor, Tensor | None]]:
        """From the end: the values to go, and the combination that each state goes on with."""
        steps: list[tuple[Tensor, Tensor | None]] = [(-price * self.last, None)]
        for link, own in zip(reversed(self.links), reversed(scores), strict=True):
            worth = (own - price * link.costs).add_(steps[-1][0][link.leaving])
            steps.append(torch.max(worth, dim=1))
        return steps[::-1]

    @cached_property
    def no_scores(self) -> list[Tensor]:
        """Zeros: all architectures are worth the same."""
        return [torch.zeros(len(link.values), dtype=torch.float64) for link in self.links]

    @cached_property
    def extremes(self) -> tuple[Path, Path]:
        """The cheapest architecture and the dearest."""
        return self.best(self.no_scores, 1.0), self.best(self.no_scores, -1.0)

    @cached_property
    def least_to_go(self) -> list[Tensor]:
        """What the rest of a network costs at least; as :meth:`values_to_go`."""
        return [-values for values in self.values_to_go(self.no_scores, 1.0)]

    @cached_property
    def most_to_go(self) -> list[Tensor]:
        """What the rest of a network costs at most; as :meth:`values_to_go`."""
        return self.values_to_go(self.no_scores, -1.0)

    # Sampling: P(A) ~ exp(-price * cost(A)). ------------------------------------------------------
    def sample(self, price: float, num_samples: int, generator: torch.Generator) -> Tensor:
        """Exact draws from ``P(A) ~ exp(-price * cost(A))``: combinations, int64 [num_samples, G].

        A pass from the end sums up what may follow each state; the draws go along the chain.
        """
        sums = self._log_sums(torch.tensor(price, dtype=torch.float64))
        state = torch.zeros(num_samples, dtype=torch.int64)
        drawn = []
        for link, following in zip(self.links, sums[1:], strict=True):
            cumulative = torch.softmax(following[link.leaving] - price * link.costs, 1).cumsum(1)
            cumulative = cumulative[state]
            uniform = torch.rand(num_samples, 1, dtype=torch.float64, generator=generator)
            own = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)[:, 0]
            drawn.append(own.clamp(max=len(link.values) - 1))
            state = link.leaving[state, drawn[-1]]
        return torch.stack(drawn, 1)

    def mean_cost(self, price: float) -> float:
        """Of the distribution of :meth:`sample`: minus the slope of the logarithm of its sum."""
        asked = torch.tensor(price, dtype=torch.float64, requires_grad=True)
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(self._log_sums(asked)[0].sum(), asked)
        return self.first - float(slope)

    def price_of(self, mean: float) -> float:
        """The price at which the mean cost is ``mean``, by bisection.

        A mean beyond the cheapest or the dearest architecture is taken as one just inside.
        """
        lowest, highest = (path.cost for path in self.extremes)
        if lowest == highest:
            return 0.0
        margin = 1e-3 * (highest - lowest)
        mean = min(max(mean, lowest + margin), highest - margin)
        reach = 1.0 / (highest - lowest)
        while not self.mean_cost(reach) < mean < self.mean_cost(-reach):
            reach *= 2
        low, high = -reach, reach
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.mean_cost(middle) > mean else (low, middle)
        return (low + high) / 2

    def sample_within(
        self, low: float, high: float, num_samples: int, generator: torch.Generator
    ) -> Tensor:
        """Uniform draws from the architectures of ``low <= cost <= high``: int64 [num_samples, V].

        Drawn at the price that makes such costs likely; what that price favours is refused as
        often. If 200 rounds do not find enough, the rest are draws at that price, in the band or
        not.
        """
        price = self._price_within(low, high)
        limit = high if price > 0 else low
        found = [torch.zeros(0, len(self.links), dtype=torch.int64)]
        missing = num_samples
        for _ in range(_MAX_ROUNDS):
            drawn = self.sample(price, max(_DRAWS_A_ROUND, 2 * missing), generator)
            costs = self._costs(drawn)
            uniform = torch.rand(len(drawn), dtype=torch.float64, generator=generator)
            is_kept = (costs >= low) & (costs <= high)
            is_kept &= uniform < (price * (costs - limit)).clamp(max=0).exp()
            found.append(drawn[is_kept][:missing])
            missing -= len(found[-1])
            if not missing:
                break
        return self.choices(torch.cat([*found, drawn[:missing]]))

    def _price_within(self, low: float, high: float) -> float:
        """The price at which :meth:`sample_within` refuses the fewest draws.

        There the mean cost is at the limit of the band that is the nearest to the mean of all.
        """
        if (low, high) not in self._prices:
            mean = self.mean_cost(0.0)
            nearest = min(max(mean, low), high)
            self._prices[low, high] = 0.0 if nearest == mean else self.price_of(nearest)
        return self._prices[low, high]

    def _log_sums(self, price: Tensor) -> list[Tensor]:
        """log sum exp(-price * cost) over all that may follow; as :meth:`values_to_go`."""
        sums = [-price * self.last]
        for link in reversed(self.links):
            sums.append((sums[-1][link.leaving] - price * link.costs).logsumexp(1))
        return sums[::-1]

    def _costs(self, combinations: Tensor) -> Tensor:
        """Costs, float64 [K], of combinations [K, G]."""
        state = torch.zeros(len(combinations), dtype=torch.int64)
        total = torch.full((len(combinations),), self.first, dtype=torch.float64)
        for link, own in zip(self.links, combinations.unbind(1), strict=True):
            total += link.costs[state, own]
            state = link.leaving[state, own]
        return total + self.last[state]


def chain_of(cost: CostFunction, space: SearchSpace) -> CostChain | None:
    """The chain of ``cost``, if it is a table about ``space`` that takes no measurements."""
    if not isinstance(cost, CostTable) or cost.is_measured:
        return None
    own = cost.space
    if (own.group_columns, own.cardinalities) != (space.group_columns, space.cardinalities):
        return None
    return CostChain(cost)


@torch.no_grad()
def group_scores(distribution: ArchitectureDistribution, chain: CostChain) -> list[Tensor] | None:
    """The log-probability of every combination of each group.

    None if one categorical is about several groups.
    """
    log_probs = distribution.factor_log_probs()
    space = distribution.space
    scores = []
    for columns, link in zip(space.group_columns, chain.links, strict=True):
        choices = torch.zeros(len(link.values), len(space.variables), dtype=torch.int64)
        choices[:, columns] = link.values
        indices = distribution.indices_of(choices)
        inside = [f for f, own in enumerate(distribution.factors) if set(own) <= set(columns)]
        if sum(len(distribution.factors[f]) for f in inside) < len(columns):
            return None
        scores.append(sum(log_probs[f][indices[:, f]] for f in inside))
    return scores
