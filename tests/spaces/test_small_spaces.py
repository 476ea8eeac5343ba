"""Our own spaces for images of about 32 x 32 px."""

from __future__ import annotations

import math

import pytest
import torch

from fpnas.blocks import SkipSpec
from fpnas.spaces import NetworkSpace, get_space


@pytest.fixture(scope="module")
def c10() -> NetworkSpace:
    return get_space("FP-NAS-C10")


def test_c10_never_skips_where_the_maps_are_halved(c10: NetworkSpace) -> None:
    halving = [group for group in c10.block_groups if group.stride == 2]
    assert len(halving) == 3
    assert all(0 not in group.variables["kernel"] for group in halving)
    assert sum(0 in group.variables["kernel"] for group in c10.block_groups) == 5


def test_c10_has_shortcuts_in_every_block(c10: NetworkSpace) -> None:
    for choices in c10.sample(20, torch.Generator().manual_seed(0)):
        blocks = [b for b in c10.architecture(choices).blocks if not isinstance(b, SkipSpec)]
        assert {block.shortcut for block in blocks} == {"always"}


def test_c10_ends_at_4_px_and_has_room_for_its_three_targets(c10: NetworkSpace) -> None:
    choices = c10.sample(20_000, torch.Generator().manual_seed(0))
    arch = c10.architecture(choices[0])
    strides = [arch.stem.stride, *(stage[0].stride for stage in arch.stages)]
    assert arch.input_size // math.prod(strides) == 4
    flops = c10.flops(choices) / 1e6
    shares = [
        float(((0.95 * target <= flops) & (flops <= target)).float().mean())
        for target in (3, 6, 12)
    ]
    assert all(share > 1e-3 for share in shares), shares


def test_c10_networks_of_the_least_budget_have_blocks(c10: NetworkSpace) -> None:
    choices = c10.sample(20_000, torch.Generator().manual_seed(0))
    small = choices[c10.flops(choices) <= 3e6]
    for row in small:
        blocks = [block for stage in c10.architecture(row).stages for block in stage]
        assert sum(not isinstance(block, SkipSpec) for block in blocks) >= 3
