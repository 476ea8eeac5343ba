from __future__ import annotations

import itertools
import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fpnas.blocks import ConvSpec, HeadSpec, MBConvSpec, PooledHeadSpec, SkipSpec
from fpnas.config import get_cfg
from fpnas.errors import ConfigError, UnknownNameError, UserError
from fpnas.spaces import SPACE_REGISTRY, BlockGroup, NetworkSpace, build_space, get_space

TINY_GROUPS = [
    BlockGroup({"kernel": (0, 3), "expansion": (1.0, 2.12), "channels": (8, 100)}),
    BlockGroup(
        {"kernel": (0, 3, 5), "splits": (0, 2), "expansion": (1.5, 3), "channels": (8, 16, 100)},
        repeats=2,
        stride=2,
    ),
]


def tiny(groups: list[BlockGroup] = TINY_GROUPS, **changes: Any) -> NetworkSpace:
    parts = {
        "name": "tiny",
        "input_size": 11,
        "stem": ConvSpec(channels=8, stride=2),
        "block_groups": groups,
        "head": HeadSpec(channels=24, num_classes=3),
    }
    return NetworkSpace(**{**parts, **changes})


def every_choice(space: NetworkSpace) -> torch.Tensor:
    return torch.tensor(list(itertools.product(*(range(c) for c in space.cardinalities))))


@pytest.mark.parametrize("name", SPACE_REGISTRY.names())
def test_costs_equal_those_of_the_architectures(name: str) -> None:
    space = get_space(name)
    choices = space.sample(25, torch.Generator().manual_seed(1))
    costs = space.costs(choices)
    assert costs.flops.dtype == costs.params.dtype == torch.int64
    for row, flops, params in zip(
        choices, costs.flops.tolist(), costs.params.tolist(), strict=True
    ):
        arch = space.architecture(row)
        assert (flops, params) == (arch.flops(), arch.params)
    assert torch.equal(space.flops(choices), costs.flops)
    assert torch.equal(space.params(choices), costs.params)


def test_every_architecture_of_a_tiny_space() -> None:
    space = tiny()
    choices = every_choice(space)
    assert len(choices) == space.num_architectures == 8 * 36
    archs = [space.architecture(row) for row in choices]
    assert space.flops(choices).tolist() == [arch.flops() for arch in archs]
    assert space.params(choices).tolist() == [arch.params for arch in archs]
    assert len(set(archs)) == space.num_distinct == (4 + 2) * (24 + 3)


@pytest.mark.parametrize("cost", ["flops", "params"])
@pytest.mark.parametrize(
    "space",
    [
        tiny(),
        tiny(TINY_GROUPS[::-1]),
        tiny(input_size=32, head=PooledHeadSpec(channels=16, num_classes=3)),
        tiny([BlockGroup({"channels": (4, 8, 12)}, block="Skip", stride=2)] * 2),
    ],
)
def test_cost_range_is_that_of_the_enumeration(space: NetworkSpace, cost: str) -> None:
    costs = getattr(space, cost)(every_choice(space))
    assert space.cost_range(cost) == (costs.min().item(), costs.max().item())


@settings(max_examples=30)
@given(
    expansions=st.lists(
        st.integers(5, 700).map(lambda e: e / 100), min_size=1, max_size=4, unique=True
    ),
    channels=st.lists(st.integers(1, 200), min_size=1, max_size=4, unique=True),
    stride=st.integers(1, 2),
    size=st.integers(1, 40),
)
def test_any_expansion_and_any_width(expansions, channels, stride, size) -> None:
    """Also where a float32 product would round to another multiple of 8 than a Python float."""
    group = BlockGroup({"expansion": expansions, "channels": channels}, repeats=2, stride=stride)
    space = tiny([group, group], input_size=size)
    choices = every_choice(space)
    assert space.flops(choices).tolist() == [space.architecture(row).flops() for row in choices]
    assert space.params(choices).tolist() == [space.architecture(row).params for row in choices]


def test_expansion_that_float32_rounds_elsewhere() -> None:
    group = BlockGroup({"expansion": (1.16,), "channels": (100,)}, repeats=2)
    space = tiny([group])
    assert space.architecture([0, 0]).params == space.params(torch.tensor([[0, 0]])).item()


def test_unsearched_fields_keep_their_defaults() -> None:
    space = tiny([BlockGroup({"channels": (16,)})])
    assert space.architecture([0]).blocks == (MBConvSpec(channels=16),)


def test_constants_hold_for_every_choice() -> None:
    group = BlockGroup({"channels": (16, 24)}, repeats=2, constants={"kernel": 5, "splits": 1})
    space = tiny([group])
    for choice, channels in enumerate((16, 24)):
        block = MBConvSpec(channels, kernel=5, splits=1)
        assert space.architecture([choice]).blocks == (block, block)
    assert len(space.variables) == 1
    choices = torch.tensor([[0], [1]])
    assert space.flops(choices).tolist() == [space.architecture(c).flops() for c in choices]


def test_with_shortcut_changes_nothing_else() -> None:
    space = tiny()
    other = space.with_shortcut("always")
    choices = every_choice(space)
    assert other.groups == space.groups
    assert torch.equal(other.flops(choices), space.flops(choices))
    for arch, changed in zip(
        map(space.architecture, choices), map(other.architecture, choices), strict=True
    ):
        assert changed.blocks == tuple(
            replace(block, shortcut="always") if isinstance(block, MBConvSpec) else block
            for block in arch.blocks
        )
    assert other.with_shortcut("equal").architecture(choices[-1]) == arch
    assert other.at(32).architecture(choices[-1]).blocks == changed.blocks


def test_space_of_a_config() -> None:
    cfg = get_cfg()
    cfg.SEARCH.SPACE = "FP-NAS-Mini"
    kinds = {}
    for cfg.SEARCH.SHORTCUT in ("", "equal", "always"):
        space = build_space(cfg)
        last = torch.tensor(space.cardinalities) - 1
        kinds[cfg.SEARCH.SHORTCUT] = {block.shortcut for block in space.architecture(last).blocks}
    assert kinds == {"": {"equal"}, "equal": {"equal"}, "always": {"always"}}
    cfg.SEARCH.SHORTCUT = "allways"
    with pytest.raises(ConfigError, match=r"SEARCH.SHORTCUT is 'allways'.*'equal', 'always'"):
        build_space(cfg)


def test_at() -> None:
    space = get_space("FBNetV2-F")
    other = space.at(input_size=128, num_classes=10)
    choices = space.sample(4, torch.Generator().manual_seed(0))
    assert (other.input_size, other.num_classes) == (128, 10)
    assert (space.input_size, space.num_classes) == (224, 1000)
    assert other.name == space.name and other.groups == space.groups
    arch = space.architecture(choices[0])
    assert other.architecture(choices[0]).flops() == arch.with_num_classes(10).flops(128)
    assert torch.equal(other.params(choices), space.params(choices) - 990 * 1984)
    assert torch.equal(space.at().flops(choices), space.flops(choices))


def test_architecture_follows_the_choices() -> None:
    space = tiny()
    arch = space.architecture([1, 1, 0, 2, 1, 0, 2], name="mine")
    assert arch.name == "mine" and arch.input_size == 11
    assert arch.stages == (
        (MBConvSpec(8, kernel=3, expansion=2.12),),
        (
            MBConvSpec(100, 2, kernel=5, expansion=1.5, splits=2),
            MBConvSpec(100, 1, kernel=5, expansion=1.5, splits=2),
        ),
    )
    assert (arch.stem, arch.head) == (space.stem, space.head)
    assert space.architecture(torch.zeros(7, dtype=torch.long)).blocks == (
        SkipSpec(8),
        SkipSpec(8, 2),
        SkipSpec(8),
    )
    assert arch.name != space.architecture([0] * 7).name == "tiny"


def test_no_architectures_cost_nothing() -> None:
    space = tiny()
    costs = space.costs(space.sample(0))
    assert costs.flops.shape == costs.params.shape == (0,)
    assert costs.flops.dtype == torch.int64


def test_ten_thousand_costs_take_less_than_a_second() -> None:
    space = get_space("FP-NAS-L2")
    choices = space.sample(10_000, torch.Generator().manual_seed(0))
    fastest = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        space.costs(choices)
        fastest = min(fastest, time.perf_counter() - start)
    assert fastest < 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BlockGroup({"channels": (8,), "kernle": (3,)}), "'kernle'.*mean 'kernel'"),
        (
            lambda: BlockGroup({"channels": (8,)}, constants={"shortcuts": "always"}),
            "'shortcuts'.*mean 'shortcut'",
        ),
        (
            lambda: BlockGroup({"channels": (8,), "act": ("relu",)}, constants={"act": "swish"}),
            "both searches and sets act",
        ),
        (
            lambda: tiny([BlockGroup({"channels": (8,)}, block="Skip")]).with_shortcut("always"),
            "Block 'Skip' has no field 'shortcut'",
        ),
        (lambda: BlockGroup({"kernel": (3,)}, constants={"channels": 8}), "among its variables"),
        (lambda: BlockGroup({"channels": (8,)}, repeats=0), "repeats .* found 0"),
        (lambda: BlockGroup({"channels": (8,)}, stride=0), "stride .* found 0"),
        (lambda: BlockGroup({"channels": (8,)}, block="Head"), "no default for num_classes"),
        (lambda: tiny(input_size=0), "'tiny': input_size .* found 0"),
        (lambda: tiny().at(input_size=-1), "input_size .* found -1"),
        (lambda: tiny().at(num_classes=0), "num_classes .* found 0"),
        (lambda: tiny().cost_range("latency"), "'flops', 'params'.*found 'latency'"),
        (lambda: tiny([]), "no groups"),
        (lambda: tiny([BlockGroup({"channels": ()})]), "'channels' has no values"),
        (lambda: tiny().flops(torch.zeros(7, dtype=torch.long)), r"\(K, 7\); found \(7,\)"),
        (lambda: tiny().flops(torch.full((1, 7), 9)), "out of range"),
        (lambda: tiny().architecture([0] * 6), r"V = 7; found \(6,\)"),
    ],
)
def test_errors(make, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_unknown_block_in_a_group() -> None:
    with pytest.raises(UnknownNameError, match="mean 'MBConv'"):
        BlockGroup({"channels": (8,)}, block="MBCnv")


def test_a_choice_that_no_block_allows() -> None:
    space = tiny([BlockGroup({"kernel": (4,), "channels": (8,)})])
    with pytest.raises(ConfigError, match="kernel must be odd, found 4"):
        space.architecture([0, 0])


def test_unknown_space_lists_the_names() -> None:
    with pytest.raises(UnknownNameError, match=r"mean 'FBNetV2-F\+?\+?'.*FP-NAS-L0"):
        get_space("FBNetv2-F")
