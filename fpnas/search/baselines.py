"""Random search and regularised evolution, with the samples counted as in a learned search."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from fpnas.errors import BudgetError, UserError
from fpnas.search.costs import CostFunction, checked_target, evaluate_cost
from fpnas.search.estimator import check_log_likelihoods
from fpnas.search.searcher import Evaluate
from fpnas.spaces.space import SearchSpace

# Rounds of draws without a single architecture within budget after which sampling gives up.
_MAX_EMPTY_ROUNDS = 1000
_BATCH_SIZE = 16
_POPULATION = 50
_TOURNAMENT = 10


@dataclass(frozen=True)
class BaselineResult:
    """The best-rated architecture, and all that were evaluated, in order; all are within budget."""

    choices: Tensor  # the architecture found, int64 [V]
    cost: float  # its cost, at most the target
    target: float  # inf without one
    evaluated: Tensor  # int64 [N, V]
    log_likelihoods: Tensor  # float64 [N], as evaluated

    @property
    def num_samples(self) -> int:
        """Architectures evaluated in the whole search."""
        return len(self.evaluated)


def random_search(
    space: SearchSpace,
    evaluate: Evaluate,
    cost: CostFunction | None = None,
    target: float | None = None,
    *,
    num_samples: int,
    seed: int = 0,
) -> BaselineResult:
    """Evaluate ``num_samples`` uniform draws from the architectures within budget.

    Arguments and errors as in :func:`~fpnas.search.search`; ``evaluate`` is called with
    16 architectures at a time.
    """
    within = _WithinBudget(space, cost, target, seed)
    choices = within.sample(num_samples)
    rated = [check_log_likelihoods(evaluate(b), b) for b in choices.split(_BATCH_SIZE)]
    return within.best(choices, torch.cat(rated))


def regularized_evolution(
    space: SearchSpace,
    evaluate: Evaluate,
    cost: CostFunction | None = None,
    target: float | None = None,
    *,
    num_samples: int,
    seed: int = 0,
) -> BaselineResult:
    """Aging evolution [Real et al. 2019] among the architectures within budget.

    The first 50 architectures, the population, are drawn uniformly. Each further one is the best
    of 10 random members with one variable changed, and replaces the oldest member; a mutation that
    exceeds the budget is made again.

    Arguments and errors as in :func:`~fpnas.search.search`; ``evaluate`` is called with one
    architecture at a time after the first population.
    """
    within = _WithinBudget(space, cost, target, seed)
    first = within.sample(min(_POPULATION, num_samples))
    rated = check_log_likelihoods(evaluate(first), first)
    evaluated = list(zip(first, rated.tolist(), strict=True))
    members = deque(evaluated, maxlen=_POPULATION)
    while len(evaluated) < num_samples:
        contenders = torch.randint(len(members), (_TOURNAMENT,), generator=within.generator)
        parent = max((members[i] for i in contenders.tolist()), key=lambda member: member[1])
        child = within.mutate(parent[0])
        rating = check_log_likelihoods(evaluate(child[None]), child[None])
        members.append((child, float(rating)))
        evaluated.append(members[-1])
    choices = torch.stack([choices for choices, _ in evaluated])
    return within.best(choices, torch.tensor([r for _, r in evaluated], dtype=torch.float64))


class _WithinBudget:
    """Draws and mutates architectures, rejecting those over the target."""

    def __init__(
        self, space: SearchSpace, cost: CostFunction | None, target: float | None, seed: int
    ) -> None:
        self.space = space
        self.cost = cost
        self.target = checked_target(space, cost, target)
        self.generator = torch.Generator().manual_seed(seed)
        self._cardinalities = torch.tensor(space.cardinalities)
        self._searched = (self._cardinalities > 1).nonzero()[:, 0]

    def sample(self, n: int) -> Tensor:
        """Uniform draws within budget, int64 [n, V]. Raises UserError unless n is above 0."""
        if n < 1:
            raise UserError(f"num_samples must be at least 1, found {n}.")
        found: list[Tensor] = []
        missing, empty_rounds = n, 0
        while missing:
            drawn = self._keep(self.space.sample(max(64, missing), self.generator))[:missing]
            found.append(drawn)
            missing -= len(drawn)
            empty_rounds = 0 if len(drawn) else empty_rounds + 1
            if empty_rounds == _MAX_EMPTY_ROUNDS:
                raise BudgetError(
                    f"Hardly any architecture costs at most {self.target:,.6g}: none among "
                    f"{64 * empty_rounds} uniform draws. Raise the target."
                )
        return torch.cat(found)

    def mutate(self, parent: Tensor) -> Tensor:
        """``parent`` with one variable changed, within budget; unchanged if no change fits."""
        for _ in range(_MAX_EMPTY_ROUNDS if len(self._searched) else 0):
            child = parent.clone()
            column = self._searched[
                torch.randint(len(self._searched), (), generator=self.generator)
            ]
            size = int(self._cardinalities[column])
            shift = torch.randint(1, size, (), generator=self.generator)
            child[column] = (child[column] + shift) % size
            if len(self._keep(child[None])):
                return child
        return parent.clone()

    def best(self, choices: Tensor, log_likelihoods: Tensor) -> BaselineResult:
        best = choices[log_likelihoods.argmax()]
        cost = 0.0 if self.cost is None else float(evaluate_cost(self.cost, best[None]))
        return BaselineResult(best, cost, self.target, choices, log_likelihoods)

    def _keep(self, choices: Tensor) -> Tensor:
        if self.cost is None:
            return choices
        return choices[evaluate_cost(self.cost, choices) <= self.target]
