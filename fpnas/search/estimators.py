"""The estimators by name, and the one that learns from every rating of a search so far."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from fpnas.errors import CheckpointError, UserError, check_known
from fpnas.search.distribution import ArchitectureDistribution, JointDistribution
from fpnas.search.estimator import Estimator, Searched
from fpnas.search.most_probable import BudgetSolution, most_probable_on
from fpnas.search.posterior import AdditivePosterior
from fpnas.spaces.space import SearchSpace

# Variables, by column, that have one categorical each.
Factors = tuple[tuple[int, ...], ...]

# Spaces up to this size are looked at as a whole: then any two variables may interact, otherwise
# those of a group.
_ENUMERATED = 2**14
_ENTROPY_DRAWS = 512
# Looked at for a draw; the result takes as long as it needs.
_CANDIDATES_A_DRAW = 512
_BISECTIONS = 60
_LOG_TEMPERATURE = 40.0


@dataclass
class AdditiveEstimator(Estimator):
    """Thompson sampling with the posterior of :class:`~fpnas.search.posterior.AdditivePosterior`.

    Each sample is the best architecture within budget under effects drawn from the posterior, so
    that a choice is tried as often as it may still be the best. As long as nothing is known,
    samples are uniform: where the cost is a table, exactly so among the architectures within
    budget. Alpha takes no gradient: the distribution is ``P(A | alpha) ~ exp(mean(A) / T)``, with
    the posterior mean of the effects of A. Hence the most probable architecture within budget is
    the best by the posterior mean. The temperature T makes the entropy of P that of the choices of
    the posterior: the sum over the variables of the entropy of the value whose effect is largest.
    With it K = lambda * H falls as the posterior makes up its mind. At the start P is uniform.

    Attributes:
        forgetting: what earlier steps keep of their weight in a step; 1: all of it. Below 1 where
            what is rated changes, as the weights of a supernet do.
    """

    learns_budget: ClassVar[bool] = False

    name: str = "additive"
    min_samples: int = 4  # of which removing the step's mean costs one
    max_redraws: int = 20
    forgetting: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.forgetting <= 1:
            raise UserError(f"forgetting is a factor above 0, at most 1; found {self.forgetting}.")

    def begin(self, search: Searched) -> None:
        """Nothing is known yet; of a small space, all architectures within budget are listed."""
        space = search.space
        is_small = space.num_architectures <= _ENUMERATED
        groups = [range(len(space.variables))] if is_small else space.group_columns
        pairs = [pair for columns in groups for pair in combinations(columns, 2)]
        self._posterior = AdditivePosterior(space.cardinalities, pairs)
        self._within: Tensor | None = None
        self._chain = None if is_small else search.chain
        self._places: dict[Factors, list[Tensor]] = {}
        if is_small:
            choices = torch.cartesian_prod(*map(torch.arange, space.cardinalities))
            choices = choices.reshape(-1, len(space.cardinalities))
            self._within = choices[~search.outside_budget(search.costs(choices))]
            self._columns = self._posterior.columns(self._within)

    def draw(self, search: Searched, num_samples: int) -> Tensor:
        """The best architectures within budget under drawn effects, int64 [num_samples, V]."""
        if not self._posterior.has_ratings:
            if self._chain is None:
                return super().draw(search, num_samples)
            return self._chain.sample_within(*search.band, num_samples, search.generator)
        effects = self._posterior.draw(num_samples, search.generator)
        return torch.stack([self._best(search, own, _CANDIDATES_A_DRAW).choices for own in effects])

    def learn(
        self, search: Searched, choices: Tensor, log_likelihoods: Tensor, hinge: Tensor
    ) -> None:
        """Take the ratings into the posterior, and let the distribution follow it."""
        self.observe(search, choices, log_likelihoods)

    def observe(self, search: Searched, choices: Tensor, log_likelihoods: Tensor) -> None:
        """As :meth:`learn`: it does not matter whose samples they were."""
        failed = torch.isneginf(log_likelihoods)
        if failed.all():
            return
        if failed.any():  # as bad as the worst, and worse by as much as the others differ
            known = log_likelihoods[~failed]
            log_likelihoods = log_likelihoods.clone()
            log_likelihoods[failed] = 2 * known.min() - known.max()
        self._posterior.add(choices, log_likelihoods, self.forgetting)
        self._follow(search.distribution)

    def best(self, search: Searched, max_candidates: int) -> BudgetSolution:
        """The best architecture within budget by the posterior mean."""
        if not self._posterior.has_ratings:
            return super().best(search, max_candidates)
        return self._best(search, self._posterior.mean, max_candidates)

    def state_dict(self) -> dict[str, Any]:
        """The posterior."""
        return self._posterior.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was taken. Raises CheckpointError on that of another estimator."""
        if not state:
            raise CheckpointError(
                "The search state has no ratings of the estimator 'additive': it was made with "
                "another SEARCH.ESTIMATOR."
            )
        self._posterior.load_state_dict(state)

    def _best(self, search: Searched, effects: Tensor, max_candidates: int) -> BudgetSolution:
        """The architecture within budget with the largest sum of ``effects`` [num_effects]."""
        if self._chain is not None:
            scores = self._scores(search.space, search.space.group_columns, effects)
            solution = most_probable_on(self._chain, scores, *search.band, max_candidates)
            if solution is not None:
                return solution
        if self._within is None:
            scored = JointDistribution(search.space)
            self._set_logits(scored, effects)
            return search.most_probable(scored, max_candidates)
        choices = self._within[int(effects[self._columns].sum(dim=1).argmax())]
        log_prob = float(search.distribution.log_prob(choices[None]).detach())
        cost = float(search.costs(choices[None]))
        return BudgetSolution(choices, cost, log_prob, True, log_prob, len(self._within))

    def _scores(self, space: SearchSpace, factors: Factors, effects: Tensor) -> list[Tensor]:
        """Sums of ``effects`` [num_effects] for each factor: float64 [its combinations].

        Pairs of variables of different factors are left out.
        """
        if factors not in self._places:
            self._places[factors] = [self._places_of(space, columns) for columns in factors]
        return [effects[own].sum(dim=1) for own in self._places[factors]]

    def _places_of(self, space: SearchSpace, columns: Sequence[int]) -> Tensor:
        """The effects of each combination of these variables, int64 [combinations, kinds]."""
        values = torch.cartesian_prod(*(torch.arange(space.cardinalities[c]) for c in columns))
        values = values.reshape(-1, len(columns))
        choices = torch.zeros(len(values), len(space.variables), dtype=torch.int64)
        choices[:, columns] = values
        return self._posterior.columns(choices)[:, self._posterior.inside(columns)]

    @torch.no_grad()
    def _set_logits(self, distribution: ArchitectureDistribution, effects: Tensor) -> None:
        """Give every combination of every factor the sum of its ``effects`` [num_effects]."""
        scores = self._scores(distribution.space, distribution.factors, effects)
        for row, own in zip(distribution.logits, scores, strict=True):
            row[: len(own)] = own

    def _follow(self, distribution: ArchitectureDistribution) -> None:
        """Set alpha to the posterior mean over the temperature that its entropy asks for."""
        generator = torch.Generator().manual_seed(0)  # the same draws whenever it is asked
        shares = self._posterior.best_values(_ENTROPY_DRAWS, generator)
        entropy = sum(float(torch.special.entr(share).sum()) for share in shares)
        self._set_logits(distribution, self._posterior.mean)
        mean = distribution.logits.detach().clone()
        low, high = -_LOG_TEMPERATURE, _LOG_TEMPERATURE
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            with torch.no_grad():
                distribution.logits.copy_(mean * math.exp(-middle))
            if float(distribution.entropy()) < entropy:
                low = middle
            else:
                high = middle


ESTIMATORS: Mapping[str, Estimator] = MappingProxyType(
    {
        # Equation 7 to the letter.
        "paper": Estimator("paper"),
        # With one sample its likelihood share is 1 whatever its likelihood, hence at least 2.
        "budgeted": Estimator("budgeted", min_samples=2, max_redraws=20, baseline=True),
        # Every rating counts, the last ones no more than the first.
        "additive": AdditiveEstimator(),
    }
)


def get_estimator(estimator: str | Estimator) -> Estimator:
    """A fresh estimator of this name, or a copy of the given one. Raises UnknownNameError."""
    if isinstance(estimator, Estimator):
        return copy.deepcopy(estimator)
    check_known(estimator, ESTIMATORS, f"Unknown estimator '{estimator}'")
    return copy.deepcopy(ESTIMATORS[estimator])
