"""The table of a space's costs against its architectures, one by one."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from fpnas.blocks import (
    BLOCK_REGISTRY,
    Attention,
    BlockShape,
    BlockSpec,
    ConvSpec,
    Cost,
    HeadSpec,
    PooledHeadSpec,
)
from fpnas.spaces import BlockGroup, NetworkSpace, get_space

VALUES = {
    "kernel": [0, 3, 5, 7],
    "splits": [0, 1, 2, 4],
    "expansion": [0.5, 0.75, 1, 1.1, 2.12, 2.25, 3, 4.5, 5.4566],
    "act": ["relu", "swish", "hswish"],
    "attention": [Attention(), Attention("input", divisor=1), Attention(ratio=0.1)],
    "padding": ["symmetric", "same"],
    "always_expand": [False, True],
}
VARIABLES = {
    name: st.lists(st.sampled_from(v), max_size=2, unique=True) for name, v in VALUES.items()
}
CHANNELS = st.lists(st.integers(1, 40), min_size=1, max_size=2, unique=True)


@st.composite
def groups(draw: st.DrawFn) -> BlockGroup:
    variables = draw(st.fixed_dictionaries({"channels": CHANNELS, **VARIABLES}))
    names = draw(st.permutations(list(variables)))
    variables = {name: variables[name] for name in names if variables[name]}
    return BlockGroup(variables, draw(st.integers(1, 3)), draw(st.integers(1, 2)))


def network(block_groups: list[BlockGroup], size: int = 9) -> NetworkSpace:
    head = PooledHeadSpec(channels=16, num_classes=3)
    return NetworkSpace("drawn", size, ConvSpec(channels=8, stride=2), block_groups, head)


def some_choices(space: NetworkSpace) -> torch.Tensor:
    return space.sample(20, torch.Generator().manual_seed(0))


@settings(max_examples=40)
@given(st.lists(groups(), min_size=1, max_size=3), st.integers(1, 20))
def test_costs_are_those_of_the_architectures(block_groups: list[BlockGroup], size: int) -> None:
    """Whatever the blocks' fields, and wherever the channels stand among the variables."""
    space = network(block_groups, size)
    choices = some_choices(space)
    archs = [space.architecture(row) for row in choices]
    assert space.flops(choices).tolist() == [arch.flops() for arch in archs]
    assert space.params(choices).tolist() == [arch.params for arch in archs]


def test_each_block_is_looked_up_once() -> None:
    seen: list[BlockShape] = []
    space = get_space("FP-NAS-Micro")
    table = space.cost_table("flops")
    prices = table.prices
    table.prices = lambda shapes: seen.extend(shapes) or prices(shapes)
    first = some_choices(space)[:1]
    table(first)
    arch = space.architecture(first[0])
    assert set(seen) == {BlockShape(x.spec, x.in_channels, x.in_size) for x in arch.layers()}
    del seen[:]
    table(first)
    assert not seen
    table.range()
    table.range()
    assert set(seen) < set(table.shapes())
    assert len(seen) + len(arch.layers()) - arch_repeats(space) == num_cells(space)


def arch_repeats(space: NetworkSpace) -> int:
    return sum(max(group.repeats - 2, 0) for group in space.block_groups)


def num_cells(space: NetworkSpace) -> int:
    """Of stem, first blocks behind every number of channels, other blocks, and head."""
    entering, cells = 1, 1
    for group, own in zip(space.block_groups, space.groups, strict=True):
        cells += own.num_combinations * (entering + (group.repeats > 1))
        entering = len(group.variables["channels"])
    return cells + entering


def test_shapes_are_the_blocks_of_all_architectures() -> None:
    space = network(
        [
            BlockGroup({"kernel": (0, 3), "channels": (8, 16)}, repeats=3, stride=2),
            BlockGroup({"channels": (8, 12), "splits": (0, 2)}),
        ]
    )
    rows = itertools.product(*(range(n) for n in space.cardinalities))
    layers = [layer for row in rows for layer in space.architecture(row).layers()]
    shapes = space.cost_table("flops").shapes()
    assert len(set(shapes)) == len(shapes)
    assert set(shapes) == {BlockShape(x.spec, x.in_channels, x.in_size) for x in layers}


@pytest.fixture
def shuffle() -> Iterator[None]:
    BLOCK_REGISTRY.register(ShuffleSpec, name="Shuffle")
    yield
    del BLOCK_REGISTRY._obj_map["Shuffle"]


@dataclass(frozen=True)
class ShuffleSpec(BlockSpec):
    """A block as a user would write it, with a field that is no number."""

    channels: int
    stride: int = 1
    mode: str = "slow"

    def cost(self, in_channels: int, height: int, width: int) -> Cost:
        weights = in_channels * self.channels * (2 if self.mode == "slow" else 1)
        return Cost(weights * height * width // self.stride, weights)

    def build(self, in_channels: int) -> nn.Module:
        raise NotImplementedError


def test_a_block_of_ones_own_needs_nothing_but_its_cost(shuffle: None) -> None:
    group = BlockGroup({"mode": ("fast", "slow"), "channels": (4, 6)}, 2, 2, block="Shuffle")
    space = network([group, group])
    choices = some_choices(space)
    archs = [space.architecture(row) for row in choices]
    assert space.flops(choices).tolist() == [arch.flops() for arch in archs]
    assert space.cost_range("params") == (
        space.architecture([0, 0, 0, 0]).params,
        space.architecture([1, 1, 1, 1]).params,
    )


def test_a_space_is_copied_with_what_it_has_looked_up() -> None:
    space = get_space("FP-NAS-Micro")
    choices = some_choices(space)
    flops = space.flops(choices)
    assert torch.equal(pickle.loads(pickle.dumps(space)).flops(choices), flops)


def test_other_heads_have_tables_of_their_own() -> None:
    space = get_space("FP-NAS-Micro")
    choices = some_choices(space)
    params = space.params(choices)
    assert isinstance(space.head, HeadSpec)
    more = space.at(num_classes=11).params(choices)
    assert torch.equal(more, params + space.head.channels)


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


def one_hot(space: NetworkSpace, choices: Tensor) -> list[Tensor]:
    return [F.one_hot(c, n).double() for c, n in zip(choices, space.cardinalities, strict=True)]


@pytest.mark.parametrize("cost", ["flops", "params"])
@pytest.mark.parametrize("name", ["FP-NAS-Micro", "FBNetV2-F++"])
def test_certain_choices_cost_what_the_architecture_costs(name: str, cost: str) -> None:
    space = get_space(name)
    expected = space.cost_table(cost).expected
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
    torch.testing.assert_close(TINY.cost_table("flops").expected(probabilities), mean)


def test_gradient_is_the_cost_of_each_value() -> None:
    """The expectation is linear in each variable's probabilities."""
    probabilities = [
        torch.full((n,), 1 / n, dtype=torch.float64, requires_grad=True) for n in TINY.cardinalities
    ]
    expected = TINY.cost_table("flops").expected
    total = expected(probabilities)
    gradients = torch.autograd.grad(total, probabilities)
    for column, gradient in enumerate(gradients):
        moved = [p.detach() for p in probabilities]
        moved[column] = torch.eye(len(gradient), dtype=torch.float64)[-1]
        uniform = probabilities[column].detach()
        change = gradient @ (moved[column] - uniform)
        torch.testing.assert_close(expected(moved) - total.detach(), change)
