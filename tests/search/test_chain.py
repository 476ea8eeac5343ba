"""Passes along the chain of a cost table, against all architectures of small spaces."""

from __future__ import annotations

import pytest
import torch
from chain_cases import (
    FOLLOWING,
    all_combinations,
    chain_spaces,
    choosing,
    random_scores,
    space_of,
    totals,
)
from hypothesis import given
from hypothesis import strategies as st

from fpnas.search import FactorizedDistribution, JointDistribution
from fpnas.search.chain import CostChain, chain_of, group_scores
from fpnas.search.distribution import ArchitectureDistribution
from fpnas.spaces import NetworkSpace, get_space
from fpnas.spaces.cost_table import BlockCosts
from fpnas.spaces.space import SearchSpace


class MeasuredCosts(BlockCosts):
    is_measured = True


@given(chain_spaces(), st.integers(0, 999), st.floats(-1e-4, 1e-4))
def test_the_best_at_a_price_is_brute_force(space: NetworkSpace, seed: int, price: float) -> None:
    chain = CostChain(space.cost_table("flops"))
    combinations = all_combinations(chain)
    costs = space.flops(chain.choices(combinations)).double()
    scores = random_scores(chain, seed)
    worth = totals(scores, combinations) - price * costs
    best = chain.best(scores, price)
    assert best.worth(price) == pytest.approx(float(worth.max()), abs=1e-9)
    chosen = torch.tensor([best.combinations])
    assert best.cost == float(space.flops(chain.choices(chosen)))
    assert best.score == pytest.approx(float(totals(scores, chosen)))
    extremes = [path.cost for path in chain.extremes]
    assert extremes == [float(costs.min()), float(costs.max())]


@given(chain_spaces())
def test_choices_are_those_of_the_space(space: NetworkSpace) -> None:
    chain = CostChain(space.cost_table("params"))
    choices = chain.choices(all_combinations(chain))
    space.check(choices)
    assert len(choices.unique(dim=0)) == space.num_architectures


@given(chain_spaces(), st.floats(-2, 2))
def test_the_mean_cost_at_a_price_is_that_of_all_architectures(
    space: NetworkSpace, price: float
) -> None:
    chain = CostChain(space.cost_table("flops"))
    costs = space.flops(chain.choices(all_combinations(chain))).double()
    price = price / float(costs.max())
    expected = float(torch.softmax(-price * costs, 0) @ costs)
    assert chain.mean_cost(price) == pytest.approx(expected, rel=1e-9)
    assert chain.mean_cost(chain.price_of(expected)) == pytest.approx(expected, rel=2e-3)


def test_samples_are_exact() -> None:
    space = space_of([choosing([8, 16, 24], [1.5, 3.0]), FOLLOWING, choosing([12, 16], [1.5])])
    chain = CostChain(space.cost_table("flops"))
    combinations = all_combinations(chain)
    costs = space.flops(chain.choices(combinations)).double()
    for price in (2.0 / float(costs.mean()), -3.0 / float(costs.mean()), 0.0):
        shares = torch.softmax(-price * costs, 0)
        drawn = chain.sample(price, 40_000, torch.Generator().manual_seed(0))
        sizes = torch.tensor([len(link.values) for link in chain.links])
        strides = sizes.flip(0).cumprod(0).flip(0) // sizes
        found = torch.bincount((drawn * strides).sum(1), minlength=len(costs)) / len(drawn)
        deviation = (found - shares) / (shares / len(drawn)).sqrt()
        assert deviation.abs().max() < 5
        assert float(deviation.square().mean()) == pytest.approx(1, abs=0.3)


def test_samples_of_a_band_are_uniform_within_it() -> None:
    space = get_space("FP-NAS-Micro")
    chain = CostChain(space.cost_table("flops"))
    generator = torch.Generator().manual_seed(0)
    target = 2.2e6
    within = chain.sample_within(0.9 * target, target, 4000, generator)
    costs = space.flops(within).double()
    assert ((costs >= 0.9 * target) & (costs <= target)).all()
    uniform = space.sample(2**20, generator)
    inside = uniform[((c := space.flops(uniform)) >= 0.9 * target) & (c <= target)]
    assert len(inside) < 0.02 * len(uniform)
    for column, size in enumerate(space.cardinalities):
        shares = [torch.bincount(x[:, column], minlength=size) / len(x) for x in (within, inside)]
        assert (shares[0] - shares[1]).abs().max() < 0.04, column


@pytest.mark.parametrize("band", [(0.0, float("inf")), (16e6, 17e6), (0.0, 1.04e6), (1e6, 17e6)])
def test_any_band_is_met(band: tuple[float, float]) -> None:
    space = get_space("FP-NAS-Micro")
    chain = CostChain(space.cost_table("flops"))
    choices = chain.sample_within(*band, 30, torch.Generator().manual_seed(0))
    assert choices.shape == (30, len(space.variables))
    costs = space.flops(choices)
    assert ((costs >= band[0]) & (costs <= band[1])).all()


def test_an_empty_band_is_filled_with_what_is_near() -> None:
    space = get_space("FP-NAS-Micro")
    chain = CostChain(space.cost_table("flops"))
    choices = chain.sample_within(2.5e6, 2.5e6 + 1e-3, 60, torch.Generator().manual_seed(0))
    space.check(choices)
    assert choices.shape == (60, len(space.variables))
    assert float(space.flops(choices).double().mean()) == pytest.approx(2.5e6, rel=0.2)


@pytest.mark.parametrize("kind", [JointDistribution, FactorizedDistribution])
def test_scores_of_a_distribution_are_its_log_probabilities(
    kind: type[ArchitectureDistribution],
) -> None:
    space = get_space("FP-NAS-Micro")
    chain = CostChain(space.cost_table("flops"))
    distribution = kind(space)
    with torch.no_grad():
        distribution.logits.normal_(generator=torch.Generator().manual_seed(0))
    combinations = torch.stack([torch.arange(20) % len(link.values) for link in chain.links], 1)
    expected = distribution.log_prob(chain.choices(combinations)).detach()
    found = totals(group_scores(distribution, chain), combinations)
    torch.testing.assert_close(found, expected)


def test_only_tables_about_the_space_that_cost_nothing_to_fill_have_a_chain() -> None:
    space = get_space("FP-NAS-Micro")
    assert chain_of(space.cost_table("flops"), space) is not None
    assert chain_of(space.flops, space) is None
    assert chain_of(MeasuredCosts(space, "flops"), space) is None
    other = SearchSpace.from_variables("other", [[[0, 1]]])
    assert chain_of(space.cost_table("flops"), other) is None
    across = ArchitectureDistribution(
        space, [tuple(range(len(space.variables)))[:9], *[(c,) for c in range(9, 20)]]
    )
    assert group_scores(across, CostChain(space.cost_table("flops"))) is None
