"""The range of cost of a space; the exact expected cost against architectures and enumeration."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from search_cases import SPACE, additive_case, all_choices, lumpy_cost
from torch import Tensor
from torch.nn import functional as F

from fpnas.blocks import ConvSpec, HeadSpec
from fpnas.errors import UserError
from fpnas.search.costs import ExpectedCost, check_reachable, cost_range
from fpnas.spaces import BlockGroup, NetworkSpace, get_space

TINY = NetworkSpace(
    "tiny",
    8,
    stem=ConvSpec(8),
    block_groups=[
        BlockGroup({"kernel": (0, 3), "expansion": (1.5, 3.0), "channels": (8, 16)}, repeats=2),
        BlockGroup({"splits": (0, 2), "channels": (8, 12)}, stride=2),
        BlockGroup({"kernel": (0, 3), "channels": (8, 12)}, repeats=3),
    ],
    head=HeadSpec(16, num_classes=3),
)


def test_cost_range():
    costs = lumpy_cost(all_choices(SPACE))
    assert cost_range(SPACE, lumpy_cost) == (costs.min(), costs.max())
    space, _, cost = additive_case()
    assert cost_range(space, cost) == (1, 73)


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan, math.inf])
def test_targets_are_positive_numbers(target):
    with pytest.raises(UserError, match="positive number"):
        check_reachable(SPACE, lumpy_cost, target)


def one_hot(space: NetworkSpace, choices: Tensor) -> list[Tensor]:
    return [F.one_hot(c, n).double() for c, n in zip(choices, space.cardinalities, strict=True)]


@pytest.mark.parametrize("cost", ["flops", "params"])
@pytest.mark.parametrize("name", ["FP-NAS-Micro", "FBNetV2-F++"])
def test_certain_choices_cost_what_the_architecture_costs(name: str, cost: str) -> None:
    space = get_space(name)
    expected = ExpectedCost(space, getattr(space, cost))
    for choices in space.sample(20, torch.Generator().manual_seed(0)):
        value = getattr(space, cost)(choices[None])[0]
        assert float(expected(one_hot(space, choices))) == float(value)


def test_mixture_costs_the_mean_over_all_architectures() -> None:
    generator = torch.Generator().manual_seed(1)
    probabilities = [
        torch.rand(n, dtype=torch.float64, generator=generator) for n in TINY.cardinalities
    ]
    probabilities = [p / p.sum() for p in probabilities]
    rows = torch.tensor(list(itertools.product(*(range(n) for n in TINY.cardinalities))))
    weights = torch.stack([p[rows[:, i]] for i, p in enumerate(probabilities)]).prod(dim=0)
    mean = (weights * TINY.flops(rows)).sum()
    torch.testing.assert_close(ExpectedCost(TINY, TINY.flops)(probabilities), mean)


def test_gradient_is_the_cost_of_each_value() -> None:
    """The expectation is linear in each variable's probabilities."""
    probabilities = [
        torch.full((n,), 1 / n, dtype=torch.float64, requires_grad=True) for n in TINY.cardinalities
    ]
    expected = ExpectedCost(TINY, TINY.flops)
    total = expected(probabilities)
    gradients = torch.autograd.grad(total, probabilities)
    for column, gradient in enumerate(gradients):
        moved = [p.detach() for p in probabilities]
        moved[column] = torch.eye(len(gradient), dtype=torch.float64)[-1]
        uniform = probabilities[column].detach()
        change = gradient @ (moved[column] - uniform)
        torch.testing.assert_close(expected(moved) - total.detach(), change)
