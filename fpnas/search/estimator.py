"""Equations 4, 6 and 7: how many architectures a step draws, and what alpha learns from them.

In the order of the paper, its sections 3.2 and 3.4. At the end stand the estimators: equation 7 as
it is printed, and beside it the rules of our own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from fpnas.config import CfgNode
from fpnas.errors import UserError
from fpnas.search.chain import CostChain
from fpnas.search.distribution import ArchitectureDistribution
from fpnas.search.most_probable import BudgetSolution
from fpnas.spaces.space import SearchSpace

# lambda * H is often meant to be an integer, as at the uniform distribution, and comes out a few
# rounding errors below it; those must not cost a whole sample.
_ROUNDING = 1e-9


# Equation 4: K = lambda H(P(A | alpha)). ----------------------------------------------------------
class Sampling(Protocol):
    """A rule for the number of samples."""

    def num_samples(self, entropy: float | Tensor) -> int:
        """Number of architectures to draw when the distribution has this entropy (nats)."""


@dataclass(frozen=True)
class AdaptiveSampling:
    """K = max(1, floor(lambda * H)), equation 4, with the entropy H in nats.

    Raises UserError unless ``lambda_ > 0``.
    """

    lambda_: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lambda_) and self.lambda_ > 0):
            raise UserError(f"AdaptiveSampling needs a positive lambda_, found {self.lambda_}.")

    @classmethod
    def starting_at(cls, samples: int, num_architectures: int) -> AdaptiveSampling:
        """The rule that draws ``samples`` from the uniform distribution over so large a space."""
        return cls(samples / math.log(max(num_architectures, 2)))

    def num_samples(self, entropy: float | Tensor) -> int:
        return max(1, math.floor(self.lambda_ * float(entropy) + _ROUNDING))


@dataclass(frozen=True)
class FixedSampling:
    """The same number of samples in every step, as in PARSEC. Raises UserError below 1."""

    samples: int

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UserError(f"FixedSampling draws at least 1 architecture, found {self.samples}.")

    def num_samples(self, entropy: float | Tensor) -> int:
        return self.samples


# SEARCH.SAMPLING -> the rule, from the options under cfg.SEARCH
SAMPLING: dict[str, Callable[[CfgNode], Sampling]] = {
    "adaptive": lambda search: AdaptiveSampling(search.LAMBDA),
    "fixed": lambda search: FixedSampling(search.NUM_SAMPLES),
}


def default_sampling(space: SearchSpace) -> AdaptiveSampling:
    """The paper's lambda = 1/4, or more where that would start with fewer than 14 samples."""
    at_least_14 = AdaptiveSampling.starting_at(14, space.num_architectures)
    return AdaptiveSampling(max(0.25, at_least_14.lambda_))


# Equation 6: the hinge cost in the loss. ----------------------------------------------------------
def hinge_cost(cost: Tensor, target: float) -> Tensor:
    """C(A_k) = max(0, cost_k / target - 1), float64 [K]: the excess over the target."""
    return (cost.double() / target - 1).clamp(min=0)


# Equation 7: the gradient sum_k m_k grad -log P(A_k | alpha). -------------------------------------
def likelihood_shares(log_likelihoods: Tensor) -> Tensor:
    """P(y | A_k) / sum_k P(y | A_k), float64 [K]: a softmax, so nothing under- or overflows.

    A log-likelihood of -inf (the evaluation failed) has share 0; if all are -inf, the shares are
    equal.
    """
    log_likelihoods = log_likelihoods.double()
    if torch.isneginf(log_likelihoods).all():
        log_likelihoods = torch.zeros_like(log_likelihoods)
    return torch.softmax(log_likelihoods, dim=0)


def cost_shares(hinge: Tensor) -> Tensor:
    """C(A_k) / sum_k C(A_k), float64 [K]; all 0 when no sample exceeds the target."""
    total = hinge.sum()
    return hinge / total if total > 0 else torch.zeros_like(hinge)


def importance_weights(
    log_likelihoods: Tensor, hinge: Tensor, beta: float, baseline: bool = False
) -> Tensor:
    """m_k of equation 7, float64 [K]: likelihood share minus beta times cost share.

    ``baseline``, a rule of our own, subtracts the mean of m_k. The expected gradient of log P is 0,
    so this removes variance and, at small K, the pull towards whatever happened to be drawn.
    """
    weights = likelihood_shares(log_likelihoods) - beta * cost_shares(hinge)
    return weights - weights.mean() if baseline else weights


def surrogate_loss(
    distribution: ArchitectureDistribution, choices: Tensor, weights: Tensor
) -> Tensor:
    """sum_k m_k * -log P(A_k | alpha), whose gradient in alpha is equation 7."""
    return -(weights.detach() * distribution.log_prob(choices)).sum()


def check_log_likelihoods(log_likelihoods: Tensor, choices: Tensor) -> Tensor:
    """What an evaluator returned for ``choices`` [K, V], as float64 [K].

    Raises UserError on a wrong shape, NaN and +inf.
    """
    values = torch.as_tensor(log_likelihoods).detach().double().cpu()
    if values.shape != (len(choices),):
        raise UserError(
            f"Expected one log-likelihood for each of {len(choices)} architectures, "
            f"found shape {tuple(values.shape)}."
        )
    bad = (values.isnan() | torch.isposinf(values)).nonzero()
    if len(bad):
        k = int(bad[0, 0])
        raise UserError(
            f"The log-likelihood of architecture {choices[k].tolist()} is {float(values[k])}; "
            "valid: finite numbers, or -inf for an evaluation that failed."
        )
    return values


# The estimators: what happens to the samples of a step before and after they are evaluated. -------
class Searched(Protocol):
    """What an estimator sees of a search, an :class:`~fpnas.search.ArchitectureSearcher`."""

    space: SearchSpace
    distribution: ArchitectureDistribution
    generator: torch.Generator
    beta: float
    band: tuple[float, float]  # of the costs within budget
    chain: CostChain | None  # of the cost, where there is one

    def costs(self, choices: Tensor) -> Tensor:
        """The cost of each architecture, float64 [K]; 0 without a cost function."""

    def outside_budget(self, costs: Tensor) -> Tensor:
        """Which of ``costs`` [K] exceed the target or miss the floor, bool [K]."""

    def most_probable(
        self, distribution: ArchitectureDistribution, max_candidates: int
    ) -> BudgetSolution:
        """The architecture within budget that is most probable under any ``distribution``."""

    def follow(self, loss: Tensor) -> None:
        """One step of Adam that lowers ``loss`` by moving alpha."""


@dataclass
class Estimator:
    """Equation 7, with three switches of our own; an estimator of another kind is a subclass.

    A subclass may draw and learn in its own way, and remember what it has seen: every searcher has
    a copy of its estimator, whose :meth:`state_dict` is part of the searcher's.

    Attributes:
        name: as in ``SEARCH.ESTIMATOR``.
        min_samples: samples a step at least, whatever the sampling rule says.
        max_redraws: rounds in which samples over the target are drawn again before anything is
            evaluated (their cost is free to compute). What is still over it is kept, and pays the
            hinge penalty.
        baseline: subtract the mean of the importance weights.
        learns_budget: alpha follows the cost, too, so that the mode tends to be within budget.
    """

    learns_budget: ClassVar[bool] = True

    name: str
    min_samples: int = 1
    max_redraws: int = 0
    baseline: bool = False

    def __post_init__(self) -> None:
        if self.min_samples < 1 or self.max_redraws < 0:
            raise UserError(
                f"Estimator '{self.name}' needs min_samples >= 1 and max_redraws >= 0, found "
                f"{self.min_samples} and {self.max_redraws}."
            )

    def begin(self, search: Searched) -> None:
        """Get ready for this search, before anything is drawn."""

    def draw(self, search: Searched, num_samples: int) -> Tensor:
        """The architectures of a step, int64 [num_samples, V], before any is redrawn."""
        return search.distribution.sample(num_samples, search.generator)

    def redraw(self, search: Searched, choices: Tensor, costs: Tensor) -> int:
        """Replace, in place, what is outside the budget by new draws; returns how many."""
        redraws = 0
        for _ in range(self.max_redraws):
            outside = search.outside_budget(costs).nonzero()[:, 0]
            if not len(outside):
                break
            choices[outside] = self.draw(search, len(outside))
            costs[outside] = search.costs(choices[outside])
            redraws += len(outside)
        return redraws

    def learn(
        self,
        search: Searched,
        choices: Tensor,
        log_likelihoods: Tensor,
        hinge: Tensor,
    ) -> None:
        """Update the searcher's alpha with what the architectures of a step were rated."""
        weights = importance_weights(log_likelihoods, hinge, search.beta, self.baseline)
        search.follow(surrogate_loss(search.distribution, choices, weights))

    def observe(self, search: Searched, choices: Tensor, log_likelihoods: Tensor) -> None:
        """Hear of the ratings of another search's samples; of no use to equation 7."""

    def best(self, search: Searched, max_candidates: int) -> BudgetSolution:
        """The result of the search so far; see :func:`most_probable_within`."""
        return search.most_probable(search.distribution, max_candidates)

    def state_dict(self) -> dict[str, Any]:
        """What it remembers from step to step, as tensors and plain Python values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was taken."""
