"""The best within a band of costs, against all architectures of small spaces."""

from __future__ import annotations

import math

import pytest
import torch
from chain_cases import all_combinations, chain_spaces, random_scores, totals
from hypothesis import given
from hypothesis import strategies as st

from fpnas.errors import BudgetError
from fpnas.search import JointDistribution, most_probable_within
from fpnas.search.chain import CostChain
from fpnas.search.exact import best_within
from fpnas.spaces import NetworkSpace, get_space

BANDS = st.tuples(st.floats(-0.1, 1.1), st.floats(-0.1, 1.1)).map(sorted)


@given(chain_spaces(), st.integers(0, 999), BANDS, st.sampled_from([0.0, 0.5]))
def test_is_brute_force(space: NetworkSpace, seed: int, band: list[float], step: float) -> None:
    """With and without ties of the scores; ``band`` as shares of the range of the costs."""
    chain = CostChain(space.cost_table("flops"))
    combinations = all_combinations(chain)
    costs = space.flops(chain.choices(combinations)).double()
    least, most = float(costs.min()), float(costs.max())
    low, high = (least + share * (most - least) for share in band)
    scores = random_scores(chain, seed, step)
    inside = (costs >= low) & (costs <= high)
    found = best_within(chain, scores, low, high, max_kept=10_000)
    if not inside.any():
        assert found.path is None and found.bound == -math.inf
        return
    expected = float(totals(scores, combinations)[inside].max())
    assert found.proven
    assert low <= found.path.cost <= high
    assert found.path.score == pytest.approx(expected, abs=1e-8)
    assert found.bound == pytest.approx(expected, abs=1e-8)


@given(chain_spaces(), st.integers(0, 999), BANDS, st.integers(1, 6))
def test_a_narrow_search_does_not_claim_more_than_it_knows(
    space: NetworkSpace, seed: int, band: list[float], max_kept: int
) -> None:
    chain = CostChain(space.cost_table("flops"))
    combinations = all_combinations(chain)
    costs = space.flops(chain.choices(combinations)).double()
    least, most = float(costs.min()), float(costs.max())
    low, high = (least + share * (most - least) for share in band)
    scores = random_scores(chain, seed)
    inside = (costs >= low) & (costs <= high)
    best = float(totals(scores, combinations).masked_fill(~inside, -math.inf).max())
    found = best_within(chain, scores, low, high, max_kept)
    assert found.bound >= best - 1e-8
    if found.path is not None:
        assert low <= found.path.cost <= high
        assert found.path.score <= best + 1e-8
        assert not found.proven or found.path.score == pytest.approx(best, abs=1e-8)


@pytest.mark.parametrize(
    ("name", "target"), [("FP-NAS-C10", 3e6), ("FBNetV2-F", 60e6), ("FP-NAS-Mini++", 5e6)]
)
@pytest.mark.parametrize("floor", [0.0, 0.9])
def test_large_spaces_are_proven(name: str, target: float, floor: float) -> None:
    space = get_space(name)
    chain = CostChain(space.cost_table("flops"))
    for seed in range(3):
        found = best_within(chain, random_scores(chain, seed), floor * target, target, 512)
        assert found.proven
        assert floor * target <= found.path.cost <= target
        # No change of one group, and of no two neighbours, is better.
        base = torch.tensor(found.path.combinations)
        scores = random_scores(chain, seed)
        for g in range(len(base) - 1):
            pair = torch.cartesian_prod(
                torch.arange(len(scores[g])), torch.arange(len(scores[g + 1]))
            )[::7]
            changed = base.repeat(len(pair), 1)
            changed[:, g : g + 2] = pair
            costs = space.flops(chain.choices(changed))
            inside = (costs >= floor * target) & (costs <= target)
            assert (totals(scores, changed)[inside] <= found.path.score + 1e-9).all()


def test_most_probable_within_takes_the_chain_of_a_table() -> None:
    """The same answer as by enumeration, where that still ends; proven where it does not."""
    space = get_space("FP-NAS-Micro")
    table = space.cost_table("flops")
    distribution = JointDistribution(space)
    with torch.no_grad():
        distribution.logits.normal_(0, 3.0, generator=torch.Generator().manual_seed(0))
    for target, floor in ((6e6, 0.0), (4e6, 3.5e6)):
        slow = most_probable_within(distribution, space.flops, target, 300_000, floor)
        fast = most_probable_within(distribution, table, target, floor=floor)
        assert slow.proven and fast.proven
        assert torch.equal(slow.choices, fast.choices)
        assert slow.cost == fast.cost
        assert slow.log_prob == pytest.approx(fast.log_prob)
        assert fast.log_prob_bound == fast.log_prob
    with pytest.raises(BudgetError, match="range from 1.03117e"):
        most_probable_within(distribution, table, 1e6)
    with pytest.raises(BudgetError, match="and of at least 2.5e"):
        most_probable_within(distribution, table, 2.5e6 + 1e-3, floor=2.5e6)
