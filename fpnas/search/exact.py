"""The best architecture within a band of costs, along the chain of a cost table.

Lagrangian relaxation, and what closes its gap. At the right price of a unit of cost, the best
architecture at that price is nearly the best within budget, and the price bounds how good any other
can be. Then all partial networks that this bound lets live are extended group by group: the best of
them is the answer, exactly, unless they become too many.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fpnas.search.chain import CostChain, Path, Scores

_MAX_ROUNDS = 60  # of the price search, which ends in about ten
_FIRST_WIDTH = 32  # partial networks after each group in the search of a first good solution
_TOLERANCE = 1e-9  # of scores, relative


class BestWithin(NamedTuple):
    """What is known about the best architecture of a band."""

    path: Path | None  # the best one found; None: none was found in the band
    bound: float  # no architecture of the band has a higher score; -inf: the band is empty
    kept: int  # partial networks that were looked at

    @property
    def proven(self) -> bool:
        """No architecture of the band has a higher score than the one found."""
        return self.path is not None and self.bound <= self.path.score


def best_within(
    chain: CostChain, scores: Scores, low: float, high: float, max_kept: int
) -> BestWithin:
    """The architecture of the highest score with ``low <= cost <= high``.

    Args:
        chain: the costs.
        scores: what the combinations of each group are worth.
        low, high: the band.
        max_kept: partial networks that are kept after each group. Where that is not enough, the
            result is not proven.
    """
    top = chain.best(scores, 0.0)
    if low <= top.cost <= high:
        return BestWithin(top, top.score, 0)
    relaxed = _relax(chain, scores, low, high, top)
    if relaxed is None:
        return BestWithin(None, -math.inf, 0)
    search = _Extension(chain, scores, low, high, relaxed)
    search.run(max_kept)
    if not low <= search.best.cost <= high:
        search.keep_both_limits()
        search.run(max_kept)
    return BestWithin(search.best, max(search.bound, search.best_score), search.kept)


class _Relaxed(NamedTuple):
    """The least upper bound that a price gives."""

    price: float  # of a unit of cost; below 0 where the best of all is too cheap
    limit: float  # which the best of all violates
    bound: float
    seen: list[Path]  # that keep the limit


def _relax(chain: CostChain, scores: Scores, low: float, high: float, top: Path) -> _Relaxed | None:
    """Minimise ``max(score - price * cost) + price * limit`` over the price.

    It is convex, with kinks where two architectures are worth the same: the next price makes equal
    the two that are known on both sides of the limit. None if nothing keeps the limit.
    """
    side, limit = (1, high) if top.cost > high else (-1, low)
    extreme = chain.extremes[0 if side > 0 else 1]
    outer, inner = top, chain.path(scores, extreme.combinations)
    if side * (inner.cost - limit) > 0:
        return None
    seen = [inner]
    for _ in range(_MAX_ROUNDS):
        price = (outer.score - inner.score) / (outer.cost - inner.cost)
        found = chain.best(scores, price)
        is_inside = side * (found.cost - limit) <= 0
        if is_inside:
            seen.append(found)
        if found.worth(price) <= outer.worth(price) + _TOLERANCE * (1 + abs(outer.score)):
            break
        outer, inner = (outer, found) if is_inside else (found, inner)
    return _Relaxed(price, limit, found.worth(price) + price * limit, seen)


class _Partial(NamedTuple):
    """Networks up to some group, n of them."""

    state: Tensor  # int64 [n], of the channels that leave them
    cost: Tensor  # float64 [n]
    score: Tensor  # float64 [n]
    parent: Tensor  # int64 [n], the network up to the group before
    combination: Tensor  # int64 [n], of the last group

    def take(self, rows: Tensor) -> _Partial:
        return _Partial(*(column[rows] for column in self))


class _Extension:
    """Extends partial networks from the first group to the last.

    At first only the limit counts that the best of all violates. Then, of two that go on alike, the
    one that is better and nearer to the inside is all that is needed.

    Attributes:
        best: the best complete network so far; None: there is none.
        bound: no other is better than this.
        kept: partial networks that were kept.
    """

    def __init__(
        self, chain: CostChain, scores: Scores, low: float, high: float, relaxed: _Relaxed
    ) -> None:
        self._chain, self._scores, self._low, self._high = chain, scores, low, high
        self._price, self._limit, self.bound, self._seen = relaxed
        self._side = 1 if self._limit == high else -1
        self._keeps_both = False
        self._ahead = chain.values_to_go(scores, self._price)
        self.best: Path | None = max(self._seen, key=lambda path: path.score)
        self.kept = 0

    @property
    def best_score(self) -> float:
        """-inf if there is none."""
        return -math.inf if self.best is None else self.best.score

    def keep_both_limits(self) -> None:
        """From now on what ends beyond the other limit is no solution either."""
        within = [path for path in self._seen if self._low <= path.cost <= self._high]
        self.best = max(within, key=lambda path: path.score, default=None)
        self._keeps_both = True

    def run(self, max_kept: int) -> None:
        """Look for the best: among few partial networks, then among all that may be better."""
        for width in (min(_FIRST_WIDTH, max_kept), max_kept):
            dropped = self._extend_all(width)
            self.bound = min(self.bound, max(dropped, self.best_score))
            if dropped == -math.inf:
                break

    def _extend_all(self, width: int) -> float:
        """Keep up to ``width`` after each group, by their bounds; the bound of all others."""
        zero = torch.zeros(1, dtype=torch.int64)
        cost = torch.full((1,), self._chain.first, dtype=torch.float64)
        layers = [_Partial(zero, cost, torch.zeros_like(cost), zero, zero)]
        dropped = -math.inf
        for number in range(len(self._scores)):
            partial = self._not_dominated(self._extended(layers[-1], number))
            if len(partial.state) > width:
                bounds = self._bounds(partial.score, partial.cost, partial.state, number + 1)
                order = bounds.argsort(descending=True, stable=True)
                dropped = max(dropped, float(bounds[order[width]]))
                partial = partial.take(order[:width])
            layers.append(partial)
            self.kept += len(partial.state)
        if len(layers[-1].state):
            found = self._traced(layers)
            if found.score > self.best_score:
                self.best = found
        return dropped

    def _extended(self, partial: _Partial, number: int) -> _Partial:
        """By all combinations of a group that may lead to something better within the limits."""
        link, after = self._chain.links[number], number + 1
        cost = partial.cost[:, None] + link.costs[partial.state]
        score = partial.score[:, None] + self._scores[number]
        leaving = link.leaving[partial.state]
        needed = self.best_score + _TOLERANCE * (1 + abs(self.bound))
        is_open = self._bounds(score, cost, leaving, after) > needed
        if self._side > 0 or self._keeps_both:
            is_open &= cost + self._chain.least_to_go[after][leaving] <= self._high
        if self._side < 0 or self._keeps_both:
            is_open &= cost + self._chain.most_to_go[after][leaving] >= self._low
        parent, combination = is_open.nonzero().unbind(1)
        chosen = parent, combination
        return _Partial(leaving[chosen], cost[chosen], score[chosen], parent, combination)

    def _bounds(self, score: Tensor, cost: Tensor, state: Tensor, number: int) -> Tensor:
        """No completion within the limit has a higher score than this."""
        return score - self._price * (cost - self._limit) + self._ahead[number][state]

    def _not_dominated(self, partial: _Partial) -> _Partial:
        """Of those that leave the same channels, those to which no other is to be preferred."""
        rising = partial.score.argsort(stable=True)
        rank = torch.empty_like(rising).scatter_(0, rising, torch.arange(len(rising)))
        order = rising.flip(0)
        order = order[(self._side * partial.cost[order]).argsort(stable=True)]
        order = order[partial.state[order].argsort(stable=True)]
        if self._keeps_both:  # every cost may be the one that fits
            same = (partial.state[order].diff() == 0) & (partial.cost[order].diff() == 0)
            is_first = torch.cat([torch.ones(1, dtype=torch.bool), ~same])[: len(order)]
            return partial.take(order[is_first])
        # The ranks of a state are above those of all states before it.
        value = partial.state[order] * len(order) + rank[order]
        is_better = torch.ones_like(value, dtype=torch.bool)
        is_better[1:] = value[1:] > value.cummax(0).values[:-1]
        return partial.take(order[is_better])

    def _traced(self, layers: list[_Partial]) -> Path:
        """The best of the last layer."""
        row = int(layers[-1].score.argmax())
        combinations = []
        for layer in reversed(layers[1:]):
            combinations.append(int(layer.combination[row]))
            row = int(layer.parent[row])
        return self._chain.path(self._scores, combinations[::-1])
