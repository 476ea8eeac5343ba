"""Importance weights m_k of the sampled architectures and the gradient that they define."""

from __future__ import annotations

import torch
from torch import Tensor

from fpnas.errors import UserError
from fpnas.search.distribution import ArchitectureDistribution


def hinge_cost(cost: Tensor, target: float) -> Tensor:
    """C(A_k) = max(0, cost_k / target - 1), float64 [K]: the excess over the target."""
    return (cost.double() / target - 1).clamp(min=0)


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

    ``baseline`` subtracts the mean of m_k. The expected gradient of log P is 0, so this removes
    variance and, at small K, the pull towards whatever happened to be drawn.
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
