"""Random search and regularised evolution."""

from __future__ import annotations

import pytest
import torch
from search_cases import SPACE, all_choices

from fpnas.errors import BudgetError, UserError
from fpnas.search.baselines import random_search, regularized_evolution
from fpnas.spaces.space import SearchSpace

TARGET = 6.0
BASELINES = (random_search, regularized_evolution)


def cost(choices):
    return choices.sum(dim=1) + 1


class Rating:
    """Counts the architectures that it rates."""

    def __init__(self):
        self.seen = 0

    def __call__(self, choices):
        self.seen += len(choices)
        return (choices.double() * torch.arange(1, 1 + choices.shape[1])).sum(dim=1)


@pytest.mark.parametrize("baseline", BASELINES)
def test_counts_its_samples_and_keeps_the_budget(baseline):
    rating = Rating()
    result = baseline(SPACE, rating, cost, TARGET, num_samples=137, seed=1)
    assert rating.seen == result.num_samples == len(result.evaluated) == 137
    assert (cost(result.evaluated) <= TARGET).all()
    assert result.cost == cost(result.choices[None])[0] <= TARGET
    best = result.log_likelihoods.argmax()
    assert torch.equal(result.evaluated[best], result.choices)


@pytest.mark.parametrize("baseline", BASELINES)
def test_seed_decides(baseline):
    first, second, other = (
        baseline(SPACE, Rating(), cost, TARGET, num_samples=80, seed=s).evaluated for s in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_evolution_climbs_where_random_search_hopes():
    space = SearchSpace.from_variables("wide", [[list(range(6))]] * 12)
    options = {"num_samples": 600, "seed": 0}
    evolved = regularized_evolution(space, Rating(), cost, 40.0, **options)
    drawn = random_search(space, Rating(), cost, 40.0, **options)
    assert evolved.log_likelihoods.max() > drawn.log_likelihoods.max()
    assert evolved.log_likelihoods[-100:].mean() > evolved.log_likelihoods[:50].mean()


def test_random_search_is_uniform_within_budget():
    result = random_search(SPACE, Rating(), cost, TARGET, num_samples=6000)
    everything = all_choices(SPACE)
    affordable = everything[cost(everything) <= TARGET]
    _, counts = result.evaluated.unique(dim=0, return_counts=True)
    assert len(counts) == len(affordable)
    expected = 6000 / len(affordable)
    assert (counts - expected).abs().max() < 5 * expected**0.5


def test_works_without_cost_and_without_choices():
    result = regularized_evolution(SPACE, Rating(), num_samples=60)
    assert len(result.evaluated) == 60
    single = SearchSpace.from_variables("single", [[[1]]])
    assert regularized_evolution(single, Rating(), num_samples=60).choices.tolist() == [0]


def test_unusable_arguments():
    with pytest.raises(BudgetError, match="range from"):
        random_search(SPACE, Rating(), cost, 0.5, num_samples=3)
    with pytest.raises(UserError, match="num_samples"):
        random_search(SPACE, Rating(), cost, TARGET, num_samples=0)
    with pytest.raises(UserError, match="needs a cost"):
        regularized_evolution(SPACE, Rating(), target=3.0, num_samples=3)
