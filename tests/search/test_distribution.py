"""Laws of the distributions, checked against the enumerated space."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from search_cases import KINDS, SPACE, all_choices, randomised, small_spaces

from fpnas.errors import UserError
from fpnas.search import FactorizedDistribution, JointDistribution
from fpnas.search.distribution import descending_sums
from fpnas.spaces.space import SearchSpace

kinds = st.sampled_from(KINDS)
seeds = st.integers(0, 2**16)


@given(small_spaces(), kinds, seeds)
def test_probabilities_sum_to_one(space, kind, seed):
    distribution = randomised(kind(space), seed)
    total = distribution.log_prob(all_choices(space)).exp().sum().detach()
    assert float(total) == pytest.approx(1, abs=1e-12)


@given(small_spaces(), kinds, seeds)
def test_entropy_is_that_of_the_enumeration(space, kind, seed):
    distribution = randomised(kind(space), seed)
    log_probs = distribution.log_prob(all_choices(space))
    expected = -(log_probs.exp() * log_probs).sum()
    assert float(distribution.entropy()) == pytest.approx(float(expected.detach()), abs=1e-12)


@given(small_spaces(), seeds)
def test_conversion_keeps_probabilities_and_entropy(space, seed):
    factorized = randomised(FactorizedDistribution(space), seed, scale=4)
    joint = factorized.to_joint()
    assert isinstance(joint, JointDistribution)
    choices = all_choices(space)
    torch.testing.assert_close(
        joint.log_prob(choices), factorized.log_prob(choices), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(joint.entropy(), factorized.entropy(), rtol=0, atol=1e-12)


@given(small_spaces(), kinds, seeds, st.integers(1, 800))
def test_top_is_the_sorted_enumeration(space, kind, seed, m):
    distribution = randomised(kind(space), seed)
    choices, log_probs = distribution.top(m)
    expected = distribution.log_prob(all_choices(space)).sort(descending=True).values[:m]
    torch.testing.assert_close(log_probs, expected.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(log_probs, distribution.log_prob(choices).detach())
    assert len(choices.unique(dim=0)) == len(choices) == min(m, space.num_architectures)
    assert torch.equal(choices[0], distribution.mode())


@given(small_spaces(), kinds)
def test_top_of_the_uniform_distribution_repeats_nothing(space, kind):
    choices, _ = kind(space).top(1000)
    assert len(choices.unique(dim=0)) == len(choices) == space.num_architectures


@pytest.mark.parametrize("kind", KINDS)
def test_descending_batches_continue_each_other(kind):
    distribution = randomised(kind(SPACE), seed=1)
    batches = list(distribution.descending(batch_size=5))
    choices, log_probs = distribution.top(SPACE.num_architectures)
    assert [len(c) for c, _ in batches] == [5] * 28 + [4]
    assert torch.equal(torch.cat([c for c, _ in batches]), choices)
    assert torch.equal(torch.cat([p for _, p in batches]), log_probs)


def test_descending_is_lazy_in_a_huge_space():
    space = SearchSpace.from_variables("huge", [[list(range(10))]] * 60)
    choices, log_probs = randomised(FactorizedDistribution(space), seed=0).top(2000)
    assert len(choices.unique(dim=0)) == 2000
    assert (log_probs.diff() <= 1e-12).all()


@given(
    st.lists(
        st.lists(st.integers(-5, 5), min_size=1, max_size=4).map(lambda x: sorted(x, reverse=True)),
        min_size=1,
        max_size=4,
    )
)
def test_descending_sums_meet_every_combination_once(lists):
    found = list(descending_sums(lists))
    totals = [total for total, _ in found]
    assert totals == sorted(totals, reverse=True)
    assert len({deviations for _, deviations in found}) == math.prod(map(len, lists)) == len(found)
    for total, deviations in found:
        ranks = dict(deviations)
        assert total == sum(terms[ranks.get(i, 0)] for i, terms in enumerate(lists))


@pytest.mark.parametrize("kind", KINDS)
def test_initial_distribution_is_uniform(kind):
    distribution = kind(SPACE)
    assert float(distribution.entropy()) == pytest.approx(math.log(SPACE.num_architectures))
    log_probs = distribution.log_prob(all_choices(SPACE))
    assert log_probs.std() < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_indices_name_the_same_architectures(kind):
    distribution = kind(SPACE)
    choices = all_choices(SPACE)
    indices = distribution.indices_of(choices)
    assert len(indices.unique(dim=0)) == len(choices)
    assert torch.equal(distribution.choices_of(indices), choices)


@pytest.mark.parametrize("kind", KINDS)
def test_sample_frequencies_match_the_probabilities(kind):
    distribution = randomised(kind(SPACE), seed=2, scale=1.0)
    n = 100_000
    drawn = distribution.sample(n, torch.Generator().manual_seed(0))
    everything = all_choices(SPACE)
    place = JointDistribution(
        SearchSpace.from_variables("flat", [[list(range(c)) for c in SPACE.cardinalities]])
    )
    counts = torch.bincount(place.indices_of(drawn)[:, 0], minlength=len(everything))
    expected = n * distribution.log_prob(everything).exp().detach()
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    degrees = len(everything) - 1
    assert abs(chi_square - degrees) < 4 * math.sqrt(2 * degrees)


@pytest.mark.parametrize("kind", KINDS)
def test_sample_repeats_with_the_generator_state(kind):
    distribution = randomised(kind(SPACE), seed=3)
    first = distribution.sample(50, torch.Generator().manual_seed(7))
    assert torch.equal(first, distribution.sample(50, torch.Generator().manual_seed(7)))
    assert not torch.equal(first, distribution.sample(50, torch.Generator().manual_seed(8)))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_and_spare_the_padding(kind):
    distribution = randomised(kind(SPACE), seed=4)
    distribution.log_prob(all_choices(SPACE)).sum().backward()
    grad = distribution.logits.grad
    assert grad.isfinite().all() and (grad != 0).any()
    for row, size in zip(grad, distribution.factor_sizes, strict=True):
        assert (row[size:] == 0).all()


def test_top_needs_a_positive_number():
    with pytest.raises(UserError, match="m >= 1"):
        JointDistribution(SPACE).top(0)
