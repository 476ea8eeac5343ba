"""Small spaces, all of their architectures, and distributions that are not uniform."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from fpnas.search import ArchitectureDistribution, FactorizedDistribution, JointDistribution
from fpnas.spaces.space import SearchSpace

# Groups of unequal shape, one variable without a choice.
SPACE = SearchSpace.from_variables(
    "small", [[[0, 1, 2], [0, 1]], [[0]], [[0, 1], [0, 1, 2, 3]], [[0, 1, 2]]]
)

KINDS = (JointDistribution, FactorizedDistribution)


def small_spaces() -> st.SearchStrategy[SearchSpace]:
    """Spaces of at most 3 groups of at most 2 variables of at most 3 values (729 architectures)."""
    variable = st.integers(1, 3).map(lambda n: list(range(n)))
    groups = st.lists(st.lists(variable, min_size=1, max_size=2), min_size=1, max_size=3)
    return groups.map(lambda g: SearchSpace.from_variables("drawn", g))


def all_choices(space: SearchSpace) -> Tensor:
    """Every architecture, int64 [N, V]."""
    axes = [torch.arange(c) for c in space.cardinalities]
    return torch.cartesian_prod(*axes).reshape(-1, len(axes))


def randomised(
    distribution: ArchitectureDistribution, seed: int, scale: float = 1.5
) -> ArchitectureDistribution:
    """The distribution with gaussian logits, padding included (which must not matter)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        distribution.logits.normal_(0, scale, generator=generator)
    return distribution


def lumpy_cost(choices):
    """A cost with interactions and no order in the values, from 1 to 30."""
    mixed = (choices * torch.arange(3, 3 + choices.shape[1])).sum(dim=1)
    return mixed * 7919 % 30 + 1


def additive_case():
    """10^8 architectures whose likely ones are all too expensive."""
    space = SearchSpace.from_variables("wide", [[list(range(10))]] * 8)
    distribution = FactorizedDistribution(space)
    with torch.no_grad():
        distribution.logits.copy_(torch.arange(10.0).expand(8, 10) * 0.3)
    return space, distribution, lambda choices: choices.sum(dim=1) + 1
