"""How well sums of measured blocks predict the latency of whole networks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from fpnas.errors import UserError
from fpnas.latency import LatencyTable
from fpnas.spaces import NetworkSpace


@dataclass(frozen=True)
class PredictionErrors:
    """Relative errors |predicted / measured - 1| over networks, percent, and their signed mean."""

    median: float
    p90: float
    mean_signed: float

    @classmethod
    def of(cls, predicted: np.ndarray, measured: np.ndarray) -> PredictionErrors:
        errors = 100 * (predicted / measured - 1)
        return cls(
            float(np.median(np.abs(errors))),
            float(np.quantile(np.abs(errors), 0.9)),
            float(errors.mean()),
        )


@dataclass(frozen=True)
class LatencyReport:
    """Result of :func:`error_report`.

    Attributes:
        sums: sum of the blocks of each network, ms, without an intercept.
        measured: time of a call of each network, ms.
        intercept_ms: the constant that fits these networks best.
        plain: errors of the sums alone.
        with_intercept: errors when each network is predicted with the intercept that was fitted
            to all the others, so that it is not judged by itself.
        rank_correlation: Kendall's tau-b of sums and measured times.
    """

    sums: tuple[float, ...]
    measured: tuple[float, ...]
    intercept_ms: float
    plain: PredictionErrors
    with_intercept: PredictionErrors
    rank_correlation: float

    @property
    def intercept_helps(self) -> bool:
        """Whether the median error on networks that were not fitted is smaller with it."""
        return self.with_intercept.median < self.plain.median


def error_report(
    table: LatencyTable, space: NetworkSpace, n: int = 20, seed: int = 0
) -> LatencyReport:
    """Compare ``table`` with ``n`` random networks of ``space``, exported whole and timed.

    The table is not changed, except for blocks that had to be measured. Raises UserError on fewer
    than 3 networks.
    """
    if n < 3:
        raise UserError(f"An error report needs at least 3 architectures, found {n}.")
    choices = space.sample(n, torch.Generator().manual_seed(seed))
    archs = [space.architecture(row) for row in choices]
    sums = [table.sum_of_blocks(arch, space.input_size) for arch in archs]
    return compare(sums, table.timer.networks(archs, space.input_size))


def compare(sums: Iterable[float], measured: Iterable[float]) -> LatencyReport:
    """The report for networks with these sums of blocks and these measured times, ms."""
    predicted, truth = np.array(list(sums)), np.array(list(measured))
    others = ~np.eye(len(truth), dtype=bool)
    intercepts = np.array([fit_intercept(predicted[o], truth[o]) for o in others])
    return LatencyReport(
        sums=tuple(predicted.tolist()),
        measured=tuple(truth.tolist()),
        intercept_ms=fit_intercept(predicted, truth),
        plain=PredictionErrors.of(predicted, truth),
        with_intercept=PredictionErrors.of(predicted + intercepts, truth),
        rank_correlation=kendall_tau(predicted, truth),
    )


def fit_intercept(sums: Iterable[float], measured: Iterable[float]) -> float:
    """The constant with the least absolute error: the median of the differences, ms."""
    return float(np.median(np.array(list(measured)) - np.array(list(sums))))


def kendall_tau(a: np.ndarray, b: np.ndarray) -> float:
    """Tau-b: concordant minus discordant pairs; equal networks are no pair. NaN if all are."""
    first, second = np.triu_indices(len(a), k=1)
    in_a, in_b = np.sign(a[first] - a[second]), np.sign(b[first] - b[second])
    pairs = np.sqrt(np.abs(in_a).sum() * np.abs(in_b).sum())
    return float((in_a * in_b).sum() / pairs) if pairs else float("nan")
