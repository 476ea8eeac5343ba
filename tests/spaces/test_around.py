"""The space around an architecture."""

import logging
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fpnas.archs import ARCH_REGISTRY, Architecture, get_arch
from fpnas.blocks import ConvSpec, HeadSpec, MBConvSpec, SkipSpec
from fpnas.errors import ConfigError, UnknownNameError
from fpnas.spaces import NetworkSpace, get_space
from fpnas.spaces.around import Cuts


def arch_of(*blocks, stem=16, in_channels=3):
    return Architecture(
        "toy", 32, ConvSpec(stem, stride=2), (blocks,), HeadSpec(32, 10), in_channels=in_channels
    )


BLOCKS = (
    MBConvSpec(24, stride=2, kernel=5, expansion=4, splits=1),
    MBConvSpec(24, kernel=7, expansion=6),
    SkipSpec(24),
    MBConvSpec(40, kernel=3, expansion=1),
    ConvSpec(48, kernel=1),
)


def test_what_becomes_of_each_block():
    space = NetworkSpace.around(arch_of(*BLOCKS))
    chosen = [dict(group.variables) for group in space.block_groups]
    assert chosen[0] == {"kernel": (3, 5), "expansion": (1, 1.5, 2, 3, 4), "channels": (16, 24)}
    assert chosen[1]["kernel"] == (0, 3, 5, 7) and "channels" not in chosen[1]
    assert chosen[2] == {"kernel": (0,)}
    assert chosen[3] == {"kernel": (3,), "expansion": (1,), "channels": (24, 32, 40)}
    assert chosen[4] == {"channels": (48,)}
    assert [group.name for group in space.groups] == [f"stage1.{i}" for i in range(5)]


def test_cuts_say_what_may_change():
    space = NetworkSpace.around(arch_of(*BLOCKS), Cuts((1,), (1,), smallest_kernel=5, skips=False))
    assert space.num_architectures == 2  # the kernel of 7 may be one of 5
    assert space.architecture([0] * len(space.variables)).blocks[1].kernel == 5


@pytest.mark.parametrize("name", [name for name, _ in ARCH_REGISTRY])
def test_the_largest_choice_is_the_architecture(name):
    """In cost, and in the shapes of all its blocks; the stages stand where they stood."""
    arch = get_arch(name)
    space = NetworkSpace.around(arch)
    same = space.architecture(space.origin_choices)
    assert space.origin is arch and same.bn_eps == arch.bn_eps
    assert [len(stage) for stage in same.stages] == [len(stage) for stage in arch.stages]
    assert [layer.cost for layer in same.layers()] == [layer.cost for layer in arch.layers()]
    assert space.cost_range()[1] == arch.flops()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), name=st.sampled_from(["efficientnet_lite0", "fp_nas_s1pp"]))
def test_costs_of_the_table_are_those_of_the_architectures(seed, name):
    space = NetworkSpace.around(get_arch(name)).at(64, 7)
    choices = space.sample(5, torch.Generator().manual_seed(seed))
    archs = [space.architecture(row) for row in choices]
    assert space.flops(choices).tolist() == [arch.flops() for arch in archs]
    assert space.params(choices).tolist() == [arch.params for arch in archs]
    low, high = space.cost_range()
    assert all(low <= arch.flops() <= high for arch in archs)


def test_range_and_expected_cost_of_groups_that_follow():
    """Against all architectures of a small space, also with blocks that repeat."""
    arch = arch_of(BLOCKS[0], BLOCKS[1], BLOCKS[3])
    space = NetworkSpace.around(arch, Cuts((1 / 2, 1)))
    repeated = [
        replace(group, repeats=2 if i == 1 else 1) for i, group in enumerate(space.block_groups)
    ]
    space = NetworkSpace("repeated", 32, space.stem, repeated, space.head)
    everything = torch.cartesian_prod(*map(torch.arange, space.cardinalities))
    costs = space.flops(everything)
    assert costs.tolist() == [space.architecture(row).flops() for row in everything]
    assert space.cost_range() == (costs.min(), costs.max())
    uniform = [torch.full((n,), 1 / n, dtype=torch.float64) for n in space.cardinalities]
    expected = space.cost_table("flops").expected(uniform)
    torch.testing.assert_close(expected, costs.double().mean())


def test_by_name_and_by_file(tmp_path):
    arch_of(*BLOCKS).save(tmp_path / "toy.yaml")
    assert get_space(f"around:{tmp_path}/toy.yaml").origin == arch_of(*BLOCKS)
    assert get_space("around:efficientnet_lite0").name == "around-efficientnet_lite0"
    with pytest.raises(UnknownNameError, match="efficientnet_lite9.*mean"):
        get_space("around:efficientnet_lite9")


def test_what_stays_whole_is_logged(caplog):
    with caplog.at_level(logging.INFO, "fpnas"):
        NetworkSpace.around(arch_of(*BLOCKS))
    assert "stage1.2 (Skip), stage1.4 (Conv)" in caplog.text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NetworkSpace.around(arch_of(ConvSpec(24))), "none of its 1 blocks can be cut"),
        (lambda: NetworkSpace.around(arch_of(*BLOCKS, in_channels=1)), "3 channels.*takes 1"),
        (lambda: Cuts(expansions=(0.5,)), "expansions .* with 1 among them; found"),
        (lambda: Cuts(widths=(0, 1)), "widths .* above 0"),
        (lambda: Cuts(smallest_kernel=4), "odd number of px, found 4"),
        (lambda: get_space("FP-NAS-Micro").origin_choices, "does not lie around"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
