"""Spaces of our own for images of about 32 x 32 px."""

from __future__ import annotations

from fpnas.blocks import ConvSpec, HeadSpec
from fpnas.spaces.block_group import BlockGroup, Row, block_groups
from fpnas.spaces.network import SPACE_REGISTRY, NetworkSpace
from fpnas.spaces.paper import FBNETV2_MICRO, FP_NAS_MICRO

_EXPANSION = (1.5, 3.0, 4.5)

FP_NAS_MICRO_ROWS = (
    Row((1,), (8, 16, 8), repeats=1, stride=1),
    Row(_EXPANSION, (16, 32, 8), repeats=2, stride=2),
    Row(_EXPANSION, (32, 64, 8), repeats=2, stride=2),
    Row(_EXPANSION, (48, 96, 16), repeats=2, stride=1),
)

FP_NAS_MINI_ROWS = (
    Row((1,), (16, 24, 8), repeats=1, stride=1),
    Row(_EXPANSION, (16, 32, 8), repeats=2, stride=1),
    Row(_EXPANSION, (24, 56, 8), repeats=1, stride=2),
    Row(_EXPANSION, (24, 56, 8), repeats=2, stride=1),
    Row(_EXPANSION, (48, 96, 16), repeats=1, stride=2),
    Row(_EXPANSION, (48, 96, 16), repeats=3, stride=1),
)

# The skip at stride 2 would read one pixel of four, so the groups that halve the maps have none.
_HALVING = {**FBNETV2_MICRO, "kernel": (3, 5)}
FP_NAS_C10_GROUPS = (
    (FBNETV2_MICRO, Row((1,), (8, 16, 4), repeats=1, stride=1)),
    (_HALVING, Row(_EXPANSION, (12, 28, 4), repeats=1, stride=2)),
    (FBNETV2_MICRO, Row(_EXPANSION, (12, 28, 4), repeats=2, stride=1)),
    (_HALVING, Row(_EXPANSION, (24, 56, 8), repeats=1, stride=2)),
    (FBNETV2_MICRO, Row(_EXPANSION, (24, 56, 8), repeats=2, stride=1)),
    (FBNETV2_MICRO, Row(_EXPANSION, (32, 72, 8), repeats=2, stride=1)),
    (_HALVING, Row(_EXPANSION, (48, 128, 16), repeats=1, stride=2)),
    (FBNETV2_MICRO, Row(_EXPANSION, (48, 128, 16), repeats=1, stride=1)),
)


def _small_space(
    name: str, input_size: int, width: int, groups: list[BlockGroup], stem: int = 16
) -> NetworkSpace:
    return NetworkSpace(
        name,
        input_size,
        stem=ConvSpec(channels=stem, kernel=3, stride=1, act="swish"),
        block_groups=groups,
        head=HeadSpec(channels=width, num_classes=10, act="swish"),
    )


@SPACE_REGISTRY.register(name="FP-NAS-Micro")
def fp_nas_micro() -> NetworkSpace:
    """For 28 x 28 px, networks of a few million FLOPs."""
    return _small_space("FP-NAS-Micro", 28, 256, block_groups(FP_NAS_MICRO_ROWS, FBNETV2_MICRO))


@SPACE_REGISTRY.register(name="FP-NAS-Mini")
def fp_nas_mini() -> NetworkSpace:
    """For 32 x 32 px, networks of about 5 to 40 million FLOPs."""
    return _small_space("FP-NAS-Mini", 32, 512, block_groups(FP_NAS_MINI_ROWS, FBNETV2_MICRO))


@SPACE_REGISTRY.register(name="FP-NAS-Mini++")
def fp_nas_mini_pp() -> NetworkSpace:
    """FP-NAS-Mini with Split-Attention."""
    return _small_space("FP-NAS-Mini++", 32, 512, block_groups(FP_NAS_MINI_ROWS, FP_NAS_MICRO))


@SPACE_REGISTRY.register(name="FP-NAS-C10")
def fp_nas_c10() -> NetworkSpace:
    """For 32 x 32 px, networks of 3 to 12 million FLOPs whose last maps have 4 x 4 px."""
    groups = [group for micro, row in FP_NAS_C10_GROUPS for group in block_groups((row,), micro)]
    return _small_space("FP-NAS-C10", 32, 256, groups, stem=8).with_shortcut("always")
