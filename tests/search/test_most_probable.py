"""The budget search against brute force, and what it says when it cannot prove anything."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from search_cases import (
    KINDS,
    SPACE,
    additive_case,
    all_choices,
    lumpy_cost,
    randomised,
    small_spaces,
)

from fpnas.errors import BudgetError, UserError
from fpnas.search import FactorizedDistribution, most_probable_within
from fpnas.search.costs import check_reachable
from fpnas.spaces import get_space
from fpnas.spaces.space import SearchSpace


@given(small_spaces(), st.sampled_from(KINDS), st.integers(0, 999), st.integers(1, 30))
def test_is_brute_force(space, kind, seed, target):
    distribution = randomised(kind(space), seed)
    choices = all_choices(space)
    costs = lumpy_cost(choices)
    log_probs = distribution.log_prob(choices).detach().masked_fill(costs > target, -math.inf)
    if (costs > target).all():
        with pytest.raises(BudgetError, match=f"range from {costs.min()} to {costs.max()}"):
            most_probable_within(distribution, lumpy_cost, target)
        return
    solution = most_probable_within(distribution, lumpy_cost, target)
    assert solution.proven
    assert solution.cost == lumpy_cost(solution.choices[None])[0] <= target
    assert solution.log_prob == solution.log_prob_bound
    assert solution.log_prob == pytest.approx(float(log_probs.max()), abs=1e-12)


@given(small_spaces(), st.integers(0, 999), st.integers(1, 30), st.floats(0.5, 1.0))
def test_a_floor_is_brute_force(space, seed, target, share):
    distribution = randomised(KINDS[0](space), seed)
    choices = all_choices(space)
    costs = lumpy_cost(choices)
    outside = (costs > target) | (costs < share * target)
    if outside.all():
        with pytest.raises(BudgetError, match="and of at least"):
            most_probable_within(distribution, lumpy_cost, target, floor=share * target)
        return
    solution = most_probable_within(distribution, lumpy_cost, target, floor=share * target)
    assert solution.proven and share * target <= solution.cost <= target
    log_probs = distribution.log_prob(choices).detach().masked_fill(outside, -math.inf)
    assert solution.log_prob == pytest.approx(float(log_probs.max()), abs=1e-12)


def test_without_proof_keeps_the_floor():
    _, distribution, cost = additive_case()
    with torch.no_grad():
        distribution.logits.neg_()  # now the likely ones are all too cheap
    solution = most_probable_within(distribution, cost, 60.0, max_candidates=500, floor=57.0)
    assert not solution.proven
    assert 57 <= solution.cost <= 60


def test_a_narrow_band_is_found_from_another_start():
    """From the mode of the uniform distribution, single changes end outside these 5 %."""
    space = get_space("FP-NAS-L1").at(240, 1000)
    distribution = FactorizedDistribution(space)
    solution = most_probable_within(distribution, space.flops, 728e6, 1, floor=0.95 * 728e6)
    assert not solution.proven and 0.95 * 728e6 <= solution.cost <= 728e6
    again = most_probable_within(distribution, space.flops, 728e6, 1, floor=0.95 * 728e6)
    assert torch.equal(solution.choices, again.choices)


def test_without_proof_states_a_bound_and_keeps_the_budget():
    _, distribution, cost = additive_case()
    solution = most_probable_within(distribution, cost, 30.0, max_candidates=500)
    assert not solution.proven and solution.candidates >= 500
    assert solution.cost <= 30
    # Here log P is linear in the cost, so that the best possible is known: sum of choices 29.
    normaliser = 8 * float(torch.logsumexp(torch.arange(10.0, dtype=torch.float64) * 0.3, 0))
    best = 0.3 * 29 - normaliser
    assert solution.log_prob == pytest.approx(best)
    assert solution.log_prob < solution.log_prob_bound < float(distribution.top(1)[1])


def test_unproven_solutions_are_near_the_proven_ones():
    space = SearchSpace.from_variables("mid", [[[0, 1, 2], [0, 1, 2]]] * 5)
    weights = torch.rand(10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def cost(choices):
        return (choices * weights).sum(dim=1) + 1 + choices[:, 0] * choices[:, 1]

    for seed in range(10):
        distribution = randomised(KINDS[seed % 2](space), seed)
        exact = most_probable_within(distribution, cost, 3.0)
        found = most_probable_within(distribution, cost, 3.0, max_candidates=1)
        assert exact.proven and found.cost <= 3
        assert found.log_prob_bound >= exact.log_prob >= found.log_prob - 1e-12
        assert exact.log_prob - found.log_prob < 1.0


def test_an_infeasible_target_in_a_large_space():
    space, distribution, cost = additive_case()
    with pytest.raises(BudgetError, match=r"0\.5; costs in this space range from 1 to 73"):
        most_probable_within(distribution, cost, 0.5, max_candidates=500)
    with pytest.raises(BudgetError, match="range from 1 to 73"):
        check_reachable(space, cost, 0.5)
    check_reachable(space, cost, 1.0)  # one single architecture out of 10^8


def test_cost_functions_are_checked():
    distribution = FactorizedDistribution(SPACE)
    with pytest.raises(UserError, match=r"one number for each of 256? architectures|shape \(\)"):
        most_probable_within(distribution, lambda choices: torch.tensor(1.0), 3.0)
    with pytest.raises(UserError, match="NaN for the architecture"):
        most_probable_within(distribution, lambda choices: choices.sum(1) * math.nan, 3.0)
