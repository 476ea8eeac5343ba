"""A Gaussian posterior over the effects of choices, from every rating of a search so far."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Prior variances, in units of the variance of a rating's noise.
_MAIN_VARIANCE, _PAIR_VARIANCE = 4.0, 0.3
# Logarithm of the prior odds that two variables interact.
_PAIR_LOG_ODDS = -1.0
_NOISE_SHAPE = 1.0
_MAX_PAIRS = 64  # that enter the mean: more would be no summary of a few hundred ratings
_LOG_ODDS_LIMIT = 30.0


@dataclass(frozen=True)
class _Fit:
    """The posterior with some pairs: effects ~ N(mean, noise * root L^-T L^-1 root)."""

    pairs: tuple[int, ...]  # numbers of pairs, ascending
    index: Tensor  # int64 [d], the effects that are part of it
    root: Tensor  # [d], prior standard deviations
    factor: Tensor  # [d, d], lower Cholesky factor L of 1 + root A root
    mean: Tensor  # [d]
    noise: float  # variance of a rating
    shape: float  # of the noise's inverse gamma distribution
    rate: float
    unexplained: float  # sum of squares; rounding may bring it below 0
    log_evidence: float


class AdditivePosterior:
    """What ratings say about the choices, if a step's ratings are a sum of effects.

    ``rating_k = step's mean + sum_v main_v[a_kv] + sum_uv pair_uv[a_ku, a_kv] + noise``: there is a
    main effect for each value of each variable and, for those pairs of variables that the ratings
    support, one for each combination of two values. Each step's own mean is removed from choices
    and ratings, so that batches, and what is slowly learned meanwhile, cancel. Effects and noise
    have the conjugate prior (normal, inverse gamma), which makes the posterior exact, independent
    of the unit of the ratings, and a matter of a matrix and a vector that are summed up.

    Whether two variables interact is a variable itself: the odds are the prior's times the ratio of
    evidence with and without that pair. What the ratings have not settled yet is thus part of some
    draws and not of others.

    Args:
        cardinalities: number of values of each variable, length V.
        pairs: which variables may interact, as (u, v).
    """

    def __init__(self, cardinalities: Sequence[int], pairs: Iterable[tuple[int, int]]) -> None:
        self.pairs = tuple(pairs)
        self._num_variables = len(cardinalities)
        sizes = [*cardinalities, *(cardinalities[u] * cardinalities[v] for u, v in self.pairs)]
        starts = torch.tensor([0, *sizes]).cumsum(0)
        self._starts = starts[:-1]
        self._second = torch.tensor([cardinalities[v] for _, v in self.pairs], dtype=torch.int64)
        self._num_main = int(starts[len(cardinalities)])
        self._blocks = [
            torch.arange(int(starts[i]), int(starts[i + 1]))
            for i in range(len(cardinalities), len(sizes))
        ]
        self.num_effects = int(starts[-1])
        self._prior = torch.full((self.num_effects,), _PAIR_VARIANCE, dtype=torch.float64)
        self._prior[: self._num_main] = _MAIN_VARIANCE
        self._moments = torch.zeros(self.num_effects, self.num_effects, dtype=torch.float64)
        self._products = torch.zeros(self.num_effects, dtype=torch.float64)
        self._squares = 0.0
        self._count = 0.0  # ratings, less one a step
        self._unit = 0.0  # variance of the first ratings: the prior guess of the noise
        self._included: tuple[int, ...] = ()
        self._probabilities = torch.zeros(len(self.pairs), dtype=torch.float64)
        self._current = self._fit(self._included)  # follows from the sums; kept for its users

    @property
    def has_ratings(self) -> bool:
        """Whether anything was told yet."""
        return self._unit > 0

    def columns(self, choices: Tensor) -> Tensor:
        """Which effects apply to choices [K, V]: int64 [K, V + pairs], one of each kind."""
        if not self.pairs:
            return choices + self._starts
        first, second = torch.tensor(self.pairs).unbind(1)
        combined = choices[:, first] * self._second + choices[:, second]
        return torch.cat([choices, combined], dim=1) + self._starts

    def inside(self, variables: Sequence[int]) -> list[int]:
        """Which of :meth:`columns` are about these variables alone."""
        pairs = [
            number
            for number, (u, v) in enumerate(self.pairs, self._num_variables)
            if u in variables and v in variables
        ]
        return [*variables, *pairs]

    def add(self, choices: Tensor, ratings: Tensor, forgetting: float = 1.0) -> None:
        """Take over a step: choices int64 [K, V] and their ratings float64 [K].

        ``forgetting``: what earlier steps keep of their weight. A step of one architecture, or of
        equal ones, says nothing.
        """
        centred = ratings - ratings.mean()
        columns = self.columns(choices)
        design = torch.zeros(len(choices), self.num_effects, dtype=torch.float64)
        design.scatter_(1, columns, 1.0)
        design -= design.mean(dim=0)
        squares = float(centred @ centred)
        if not self.has_ratings and len(choices) > 1:
            self._unit = squares / (len(choices) - 1)
        for total in (self._moments, self._products):
            total.mul_(forgetting)
        self._moments += design.t() @ design
        self._products += design.t() @ centred
        self._squares = forgetting * self._squares + squares
        self._count = forgetting * self._count + len(choices) - 1
        fit = self._fit(self._included)
        self._update_pairs(fit)
        self._current = fit if fit.pairs == self._included else self._fit(self._included)

    @property
    def mean(self) -> Tensor:
        """Posterior mean of all effects, float64 [num_effects]; 0 of pairs that are left out."""
        return self._spread(self._current.index, self._current.mean[None])[0]

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Effects drawn from the posterior, float64 [count, num_effects]."""
        fits: dict[tuple[int, ...], _Fit] = {}
        draws = []
        for _ in range(count):
            chance = torch.rand(len(self.pairs), dtype=torch.float64, generator=generator)
            pairs = tuple((chance < self._probabilities).nonzero()[:, 0].tolist())
            if pairs not in fits:
                fits[pairs] = self._fit(pairs)
            fit = fits[pairs]
            draws.append(self._spread(fit.index, _normal(fit, 1, generator))[0])
        return torch.stack(draws)

    def best_values(self, count: int, generator: torch.Generator) -> list[Tensor]:
        """For each variable, how often each of its values is the best in ``count`` draws.

        Shares [values], by the main effects, each variable by itself.
        """
        effects = _normal(self._current, count, generator)  # the main effects come first
        ends = [*self._starts[1:].tolist(), self.num_effects]
        shares = []
        for start, end in zip(self._starts.tolist(), ends, strict=True):
            if start >= self._num_main:
                break
            best = effects[:, start:end].argmax(dim=1)
            shares.append(torch.bincount(best, minlength=end - start).double() / count)
        return shares

    def state_dict(self) -> dict[str, Any]:
        """The sums, as tensors and plain Python values."""
        return {
            "moments": self._moments.clone(),
            "products": self._products.clone(),
            "squares": self._squares,
            "count": self._count,
            "unit": self._unit,
            "included": list(self._included),
            "probabilities": self._probabilities.clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was taken."""
        self._moments.copy_(state["moments"])
        self._products.copy_(state["products"])
        self._squares, self._count = state["squares"], state["count"]
        self._unit = state["unit"]
        self._included = tuple(state["included"])
        self._probabilities.copy_(state["probabilities"])
        self._current = self._fit(self._included)

    def _fit(self, pairs: tuple[int, ...]) -> _Fit:
        """The posterior with these pairs of variables (numbers of :attr:`pairs`)."""
        index = torch.cat([torch.arange(self._num_main), *(self._blocks[p] for p in pairs)])
        root = self._prior[index].sqrt()
        inner = root[:, None] * self._moments[index[:, None], index] * root
        inner.diagonal().add_(1.0)
        factor = torch.linalg.cholesky(inner)
        solved = torch.linalg.solve_triangular(
            factor, (root * self._products[index])[:, None], upper=False
        )
        mean = root * torch.linalg.solve_triangular(factor.t(), solved, upper=True)[:, 0]
        unexplained = self._squares - float(solved.square().sum())
        shape = _NOISE_SHAPE + self._count / 2
        rate = self._rate(unexplained)
        evidence = -float(factor.diagonal().log().sum()) - shape * math.log(rate or 1.0)
        noise = rate / shape
        return _Fit(pairs, index, root, factor, mean, noise, shape, rate, unexplained, evidence)

    def _rate(self, unexplained: float) -> float:
        """Of the noise's distribution."""
        return _NOISE_SHAPE * self._unit + max(unexplained, 0.0) / 2

    def _update_pairs(self, fit: _Fit) -> None:
        """The probability that two variables interact, for each pair, and the likely ones.

        ``fit``: the posterior with those that were likely so far.
        """
        if not self.pairs or not self.has_ratings:
            return
        gains = torch.tensor(self._gains(fit), dtype=torch.float64)
        log_odds = (gains + _PAIR_LOG_ODDS).clamp(-_LOG_ODDS_LIMIT, _LOG_ODDS_LIMIT)
        self._probabilities = log_odds.sigmoid()
        likely = (self._probabilities > 0.5).nonzero()[:, 0]
        order = self._probabilities[likely].argsort(descending=True, stable=True)
        self._included = tuple(sorted(likely[order[:_MAX_PAIRS]].tolist()))

    def _gains(self, fit: _Fit) -> list[float]:
        """What each pair adds to the log-evidence of the posterior with all others of ``fit``."""
        others = [pair for pair in range(len(self.pairs)) if pair not in fit.pairs]
        gains = {**self._gains_inside(fit), **self._gains_beside(fit, others)}
        return [gains[pair] for pair in range(len(self.pairs))]

    def _gains_inside(self, fit: _Fit) -> dict[int, float]:
        """For the pairs of ``fit``: without one, its effects are held at 0.

        What the ratings know about these effects alone is a block of the inverse.
        """
        if not fit.pairs:
            return {}
        inverse, scaled = torch.cholesky_inverse(fit.factor), fit.mean / fit.root
        gains, start = {}, self._num_main
        for pair in fit.pairs:
            own = slice(start, start + len(self._blocks[pair]))
            factor = torch.linalg.cholesky(inverse[own, own])
            explained = torch.linalg.solve_triangular(factor, scaled[own, None], upper=False)
            rate = self._rate(fit.unexplained + float(explained.square().sum()))
            determinant = float(factor.diagonal().log().sum())
            gains[pair] = determinant + fit.shape * (math.log(rate) - math.log(fit.rate))
            start = own.stop
        return gains

    def _gains_beside(self, fit: _Fit, pairs: Sequence[int]) -> dict[int, float]:
        """For ``pairs`` that are none of ``fit``: what is left of their effects beside the others.

        The sums about all of them are reduced at once.
        """
        if not pairs:
            return {}
        columns = torch.cat([self._blocks[pair] for pair in pairs])
        shared = self._moments[fit.index[:, None], columns]
        halves = torch.linalg.solve_triangular(fit.factor, fit.root[:, None] * shared, upper=False)
        open_products = self._products[columns] - shared.t() @ fit.mean
        root, gains, start = math.sqrt(_PAIR_VARIANCE), {}, 0
        for pair in pairs:
            block, own = self._blocks[pair], slice(start, start + len(self._blocks[pair]))
            first, last = int(block[0]), int(block[-1]) + 1
            half = halves[:, own]
            inner = _PAIR_VARIANCE * (self._moments[first:last, first:last] - half.t() @ half)
            inner.diagonal().add_(1.0)
            factor = torch.linalg.cholesky(inner)
            solved = torch.linalg.solve_triangular(
                factor, root * open_products[own, None], upper=False
            )
            rate = self._rate(fit.unexplained - float(solved.square().sum()))
            determinant = float(factor.diagonal().log().sum())
            gains[pair] = -determinant - fit.shape * (math.log(rate) - math.log(fit.rate))
            start = own.stop
        return gains

    def _spread(self, index: Tensor, values: Tensor) -> Tensor:
        """Values [n, d] of the effects ``index`` as [n, num_effects], 0 elsewhere."""
        effects = torch.zeros(len(values), self.num_effects, dtype=torch.float64)
        effects[:, index] = values
        return effects


def _normal(fit: _Fit, count: int, generator: torch.Generator) -> Tensor:
    """Draws [count, d] of the effects of ``fit``."""
    standard = torch.randn(len(fit.index), count, dtype=torch.float64, generator=generator)
    spread = torch.linalg.solve_triangular(fit.factor.t(), standard, upper=True)
    return fit.mean + math.sqrt(fit.noise) * (fit.root[:, None] * spread).t()
