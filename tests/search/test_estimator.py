"""Equation 4, importance weights, and equation 7 against the gradient of equation 6."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from search_cases import KINDS, SPACE, all_choices, randomised

from fpnas.errors import UserError
from fpnas.search import AdaptiveSampling, FixedSampling
from fpnas.search.estimator import (
    check_log_likelihoods,
    hinge_cost,
    importance_weights,
    likelihood_shares,
    surrogate_loss,
)

BETA = 0.3
likelihoods = st.lists(st.floats(-50, 50), min_size=1, max_size=12)


@given(st.integers(1, 200), st.integers(2, 10**30))
def test_adaptive_starts_with_the_intended_number_despite_rounding(samples, size):
    rule = AdaptiveSampling.starting_at(samples, size)
    assert rule.num_samples(math.log(size)) == samples


@given(st.floats(0.01, 4), st.floats(0, 100))
def test_adaptive_is_floor_of_lambda_entropy(lambda_, entropy):
    product = lambda_ * entropy
    found = AdaptiveSampling(lambda_).num_samples(entropy)
    assert found in {max(1, math.floor(product)), max(1, math.floor(product + 1e-9))}


def test_a_quarter_on_fbnetv2_f_is_14_in_nats():
    assert AdaptiveSampling(0.25).num_samples(56.25) == 14


def test_fixed_ignores_the_entropy():
    assert {FixedSampling(14).num_samples(h) for h in (0.0, 3.0, 60.0)} == {14}


@pytest.mark.parametrize(
    "make",
    [
        lambda: FixedSampling(0),
        lambda: AdaptiveSampling(0.0),
        lambda: AdaptiveSampling(math.nan),
    ],
)
def test_unusable_sampling(make):
    with pytest.raises(UserError, match="found"):
        make()


def problem():
    """All architectures with a likelihood and a hinge cost each, some of which are 0."""
    choices = all_choices(SPACE)
    generator = torch.Generator().manual_seed(0)
    log_likelihoods = torch.randn(len(choices), generator=generator, dtype=torch.float64)
    hinge = hinge_cost(choices.sum(dim=1) + 1, target=5.0)
    return choices, log_likelihoods, hinge


def exact_gradient(distribution):
    """Gradient of equation 6 with both integrals over the whole space."""
    choices, log_likelihoods, hinge = problem()
    probabilities = distribution.log_prob(choices).exp()
    likelihood = (probabilities * log_likelihoods.exp()).sum()
    cost = (probabilities * hinge).sum()
    loss = -likelihood.log() + BETA * cost.log()
    return torch.autograd.grad(loss, distribution.logits)[0]


def estimate(distribution, choices, log_likelihoods, hinge, baseline=False):
    weights = importance_weights(log_likelihoods, hinge, BETA, baseline)
    loss = surrogate_loss(distribution, choices, weights)
    return torch.autograd.grad(loss, distribution.logits)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_equation_7_is_the_gradient_of_equation_6(kind):
    """On samples in exact proportion to P, equation 7 has no sampling error."""
    distribution = randomised(kind(SPACE), seed=1)
    choices, log_likelihoods, hinge = problem()
    # A sample of weight P(A) stands for P(A) * K equal samples: its likelihood and cost count so
    # often in the sums of m_k, which is what adding log P and multiplying by P does.
    log_probs = distribution.log_prob(choices).detach()
    gradient = estimate(distribution, choices, log_likelihoods + log_probs, hinge * log_probs.exp())
    torch.testing.assert_close(gradient, exact_gradient(distribution), rtol=1e-10, atol=1e-12)


def mean_estimate(distribution, samples, repeats, baseline=False):
    choices, log_likelihoods, hinge = problem()
    rows = torch.multinomial(
        distribution.log_prob(choices).detach().exp(),
        samples * repeats,
        replacement=True,
        generator=torch.Generator().manual_seed(5),
    ).reshape(repeats, samples)
    total = torch.zeros_like(distribution.logits)
    for draw in rows:
        total += estimate(distribution, choices[draw], log_likelihoods[draw], hinge[draw], baseline)
    return total / repeats


def test_bias_shrinks_with_the_number_of_samples():
    distribution = randomised(KINDS[0](SPACE), seed=1, scale=0.5)
    exact = exact_gradient(distribution)

    def bias(samples, repeats):
        return float((mean_estimate(distribution, samples, repeats) - exact).norm() / exact.norm())

    few, some, many = bias(2, 4000), bias(14, 1500), bias(400, 100)
    assert few > 2 * some > 2 * many
    assert many < 0.1


def test_one_sample_tells_nothing_about_likelihood():
    """Why `budgeted` draws at least two: with K = 1 the expected paper gradient has no signal."""
    hinge = torch.zeros(1)
    weights = [importance_weights(torch.tensor([x]), hinge, BETA) for x in (-9.0, 4.0)]
    assert weights[0] == weights[1] == 1


@given(likelihoods, st.floats(-1e4, 1e4))
def test_likelihood_shares_ignore_a_common_factor(values, shift):
    values = torch.tensor(values, dtype=torch.float64)
    shares = likelihood_shares(values)
    assert float(shares.sum()) == pytest.approx(1)
    torch.testing.assert_close(likelihood_shares(values + shift), shares, rtol=0, atol=1e-9)


def test_likelihood_shares_neither_under_nor_overflow():
    shares = likelihood_shares(torch.tensor([-1e6, -1e6 + math.log(3)], dtype=torch.float64))
    torch.testing.assert_close(shares, torch.tensor([0.25, 0.75], dtype=torch.float64))


def test_failed_evaluations_have_no_share():
    inf = math.inf
    assert likelihood_shares(torch.tensor([-inf, 2.0])).tolist() == [0, 1]
    assert likelihood_shares(torch.tensor([-inf, -inf])).tolist() == [0.5, 0.5]


def test_weights_by_hand():
    log_likelihoods = torch.tensor([1.0, 3.0]).log()
    hinge = hinge_cost(torch.tensor([120, 160]), target=100.0)
    torch.testing.assert_close(hinge, torch.tensor([0.2, 0.6], dtype=torch.float64))
    expected = torch.tensor([0.25 - 0.3 * 0.25, 0.75 - 0.3 * 0.75], dtype=torch.float64)
    torch.testing.assert_close(importance_weights(log_likelihoods, hinge, 0.3), expected)
    torch.testing.assert_close(
        importance_weights(log_likelihoods, hinge, 0.3, baseline=True), expected - expected.mean()
    )


@given(likelihoods)
def test_no_cost_share_when_nothing_exceeds_the_target(values):
    values = torch.tensor(values)
    hinge = hinge_cost(torch.full((len(values),), 90), target=100.0)
    assert torch.equal(importance_weights(values, hinge, BETA), likelihood_shares(values))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_unusable_likelihoods(bad):
    with pytest.raises(UserError, match=r"architecture \[2, 3\] is"):
        check_log_likelihoods(torch.tensor([0.0, bad]), torch.tensor([[0, 1], [2, 3]]))
    with pytest.raises(UserError, match="each of 2 architectures"):
        check_log_likelihoods(torch.tensor([0.0]), torch.tensor([[0, 1], [2, 3]]))
