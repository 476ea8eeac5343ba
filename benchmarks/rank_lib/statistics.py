"""Rank correlation with its uncertainty, and the correlation that noise leaves possible."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

Scores = Sequence[float]  # one for each architecture

_RESAMPLES = 500


@dataclass(frozen=True)
class Correlation:
    """Of two rankings of the same architectures.

    Attributes:
        tau: Kendall's tau-b.
        error: its standard error, from the bootstrap over the architectures.
        low, high: its 95 % interval, from the same.
        rho: Spearman's coefficient.
        count: architectures.
    """

    tau: float
    error: float
    low: float
    high: float
    rho: float
    count: int


def correlate(ratings: Scores, truth: Scores) -> Correlation:
    """The correlation of two lists of scores, one of each for every architecture."""
    boot = _bootstrap(_tau, ratings, truth)
    is_ranked = min(len(set(ratings)), len(set(truth))) > 1  # spearmanr warns otherwise
    return Correlation(
        tau=_tau(ratings, truth),
        error=float(boot.standard_error),
        low=float(boot.confidence_interval.low),
        high=float(boot.confidence_interval.high),
        rho=float(stats.spearmanr(ratings, truth).statistic) if is_ranked else 0.0,
        count=len(truth),
    )


def gain(ratings: Scores, rival: Scores, truth: Scores) -> tuple[float, float]:
    """Tau of ``ratings`` less that of ``rival``, and the standard error of the difference.

    Both are resampled together: much of their errors is common to them.
    """

    def difference(ratings: Scores, rival: Scores, truth: Scores) -> float:
        return _tau(ratings, truth) - _tau(rival, truth)

    boot = _bootstrap(difference, ratings, rival, truth)
    return difference(ratings, rival, truth), float(boot.standard_error)


def _bootstrap(statistic: Callable[..., float], *scores: Scores) -> Any:
    """Scipy's bootstrap over the architectures."""
    return stats.bootstrap(
        scores,
        statistic,
        paired=True,
        vectorized=False,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    )


def _tau(first: Scores, second: Scores) -> float:
    return _or_zero(stats.kendalltau(first, second).statistic)


def _or_zero(coefficient: float) -> float:
    """Scores that are all equal rank nothing; scipy says NaN."""
    return 0.0 if math.isnan(coefficient) else float(coefficient)


def seed_deviation(repeats: Sequence[Sequence[float]]) -> float:
    """Standard deviation between seeds of one architecture, pooled; NaN without repeats."""
    groups = [group for group in repeats if len(group) > 1]
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        return math.nan
    squares = sum((len(group) - 1) * statistics.variance(group) for group in groups)
    return math.sqrt(squares / freedom)


def highest_tau(scores: Scores, noise: float) -> float:
    """Tau that a perfect predictor has, in expectation, with scores of that noise.

    True scores and noise are taken for normal: tau = 2/pi asin(r), where r^2 is the share of the
    scores' variance that is not noise. 0 if noise explains all of it.
    """
    share = 1 - noise**2 / statistics.variance(scores)
    return 2 / math.pi * math.asin(math.sqrt(max(share, 0.0)))
