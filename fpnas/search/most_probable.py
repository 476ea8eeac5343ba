"""The budget as a promise: the most probable architecture whose cost is at most the target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fpnas.search.chain import CostChain, chain_of, group_scores
from fpnas.search.costs import (
    CostFunction,
    cost_range,
    evaluate_cost,
    folded,
    neighbours,
    unreachable,
)
from fpnas.search.distribution import ArchitectureDistribution
from fpnas.search.exact import best_within

MAX_CANDIDATES = 100_000  # architectures that are looked at for a result

# Partial networks after each group, along the chain of a cost table. A few dozen are usual.
_MIN_KEPT, _MAX_KEPT = 32, 2048
_BISECTIONS = 24
_RANDOM_STARTS = 4


@dataclass(frozen=True)
class BudgetSolution:
    """An architecture within budget, and what is known about better ones.

    Attributes:
        choices: int64 [V].
        cost: its cost, at most the target.
        log_prob: its log-probability.
        proven: no architecture within budget is more probable.
        log_prob_bound: no architecture within budget has a larger log-probability than this. Equals
            ``log_prob`` if ``proven``, otherwise the point at which the enumeration stopped.
        candidates: architectures whose cost was looked at in the enumeration; where the cost is a
            table, partial networks that were.
    """

    choices: Tensor
    cost: float
    log_prob: float
    proven: bool
    log_prob_bound: float
    candidates: int


def most_probable_within(
    distribution: ArchitectureDistribution,
    cost: CostFunction,
    target: float,
    max_candidates: int = MAX_CANDIDATES,
    floor: float = 0.0,
) -> BudgetSolution:
    """The most probable architecture with ``floor <= cost <= target``.

    Where ``cost`` is a :class:`~fpnas.spaces.CostTable` that takes no measurements, it is found
    along the table's chain (:mod:`fpnas.search.exact`), and nearly always proven. Otherwise
    architectures are enumerated from the most probable downwards; the first within budget is the
    answer, proven. When ``max_candidates`` of them are all too expensive, a penalised local search
    finds a good one within budget instead: not proven, but bounded by the probability at which the
    enumeration stopped. ``cost`` may be any function; nothing is assumed about it.

    Raises BudgetError, with the range of cost that was found, if nothing within budget is found.
    """
    chain = chain_of(cost, distribution.space)
    scores = None if chain is None else group_scores(distribution, chain)
    if scores is not None:
        solution = most_probable_on(chain, scores, floor, target, max_candidates)
        if solution is not None:
            return solution
    candidates = 0
    bound = math.inf
    for choices, log_probs in distribution.descending():
        costs = evaluate_cost(cost, choices)
        fits = (folded(costs, target, floor) <= target).nonzero()
        if len(fits):
            k = int(fits[0, 0])
            log_prob = float(log_probs[k])
            return BudgetSolution(
                choices[k].clone(), float(costs[k]), log_prob, True, log_prob, candidates + k + 1
            )
        candidates += len(choices)
        bound = float(log_probs[-1])
        if candidates >= max_candidates:
            break
    found = None
    if candidates < distribution.space.num_architectures:
        found = _PenalisedAscent(
            distribution, lambda c: folded(evaluate_cost(cost, c), target, floor), target
        ).run()
    if found is None:
        raise unreachable(target, floor, *cost_range(distribution.space, cost))
    choices = distribution.choices_of(found[None])[0]
    with torch.no_grad():
        log_prob = float(distribution.log_prob(choices[None]))
    spent = float(evaluate_cost(cost, choices[None]))
    return BudgetSolution(choices, spent, log_prob, False, bound, candidates)


def most_probable_on(
    chain: CostChain, scores: Sequence[Tensor], floor: float, target: float, max_candidates: int
) -> BudgetSolution | None:
    """As :func:`most_probable_within`, along the chain of a cost.

    Args:
        chain: the cost.
        scores: logarithms of odds, float64 [combinations] for each group.
        floor, target: the least and the most that the architecture costs.
        max_candidates: partial networks that are looked at.

    None if these were too few to find any. Raises BudgetError if there is none.
    """
    max_kept = min(max(max_candidates // len(scores), _MIN_KEPT), _MAX_KEPT)
    found = best_within(chain, scores, floor, target, max_kept)
    if found.path is None:
        if found.bound == -math.inf:
            raise unreachable(target, floor, *(path.cost for path in chain.extremes))
        return None
    combinations, score, spent = found.path
    normaliser = sum(float(own.logsumexp(0)) for own in scores)
    log_prob, bound = score - normaliser, found.bound - normaliser
    choices = chain.choices(torch.tensor([combinations]))[0]
    return BudgetSolution(choices, spent, log_prob, found.proven, bound, found.kept)


class _PenalisedAscent:
    """Coordinate ascent on log P - price * cost / target, which remembers the best within budget.

    Attributes:
        log_probs: of every value of every factor, [F, values].
        best: indices [F] of the most probable architecture within budget so far; None: there was
            none.
        best_log_prob: its log P.
    """

    def __init__(
        self, distribution: ArchitectureDistribution, cost: CostFunction, target: float
    ) -> None:
        self._distribution, self._cost, self._target = distribution, cost, target
        with torch.no_grad():
            self.log_probs = distribution.factor_log_probs()
        self.best: Tensor | None = None
        self.best_log_prob = -math.inf

    def run(self) -> Tensor | None:
        """Indices [F] of a probable architecture within budget, or None.

        The price is found by bisection, starting at the mode. A narrow band of costs can lie
        beyond every single change, so that without a candidate it starts again at architectures
        drawn from the distribution. At last the best candidate is improved as long as a single
        change within budget makes it more probable.
        """
        self.bisect(self.log_probs.argmax(dim=1))
        generator = torch.Generator().manual_seed(0)
        for _ in range(_RANDOM_STARTS):
            if self.best is not None:
                break
            self.bisect(torch.multinomial(self.log_probs.exp(), 1, generator=generator)[:, 0])
        improved = -math.inf
        while self.best is not None and self.best_log_prob > improved:
            improved = self.best_log_prob
            self.step(self.best, price=0.0)
        return self.best

    def step(self, indices: Tensor, price: float) -> tuple[Tensor, float, bool]:
        """The best neighbour at this price, its score, and whether it is within budget."""
        around = neighbours(indices, self._distribution.factor_sizes)
        scores = self.log_probs.t().gather(0, around).sum(dim=1)
        costs = evaluate_cost(self._cost, self._distribution.choices_of(around))
        feasible = scores.masked_fill(costs > self._target, -math.inf)
        k = int(feasible.argmax())
        if feasible[k] > self.best_log_prob:
            self.best, self.best_log_prob = around[k], float(feasible[k])
        penalised = scores - price * costs / self._target
        k = int(penalised.argmax())
        return around[k], float(penalised[k]), bool(costs[k] <= self._target)

    def ascend(self, indices: Tensor, price: float) -> tuple[Tensor, bool]:
        """Where steps from ``indices`` end, and whether that is within budget."""
        score = -math.inf
        while True:
            neighbour, neighbour_score, fits = self.step(indices, price)
            if neighbour_score <= score + 1e-12:
                return indices, fits
            indices, score = neighbour, neighbour_score

    def bisect(self, indices: Tensor) -> None:
        """Look for the lowest price whose ascent from ``indices`` ends within budget."""
        low, high, fits = 0.0, 1.0, False
        for _ in range(_BISECTIONS):  # a price that is high enough
            indices, fits = self.ascend(indices, high)
            if fits:
                break
            low, high = high, high * 4
        for _ in range(_BISECTIONS if fits else 0):
            middle = (low + high) / 2
            indices, fits = self.ascend(indices, middle)
            low, high = (low, middle) if fits else (middle, high)
