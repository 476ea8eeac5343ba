"""FBNetV2-F and its two variants (section 4 of the paper)."""

from __future__ import annotations

from fpnas.spaces.macro import (
    EXPANSION,
    FBNETV2_MICRO,
    FP_NAS_MICRO,
    Row,
    block_groups,
    imagenet_space,
)
from fpnas.spaces.network import NetworkSpace
from fpnas.spaces.registry import SPACE_REGISTRY

# Table 1, rows 2 to 11; the input of row 2 is 112 px wide for a 224 px image.
FBNETV2_F_ROWS = (
    Row((1,), (12, 16, 4), repeats=1, stride=1),
    Row(EXPANSION, (16, 24, 4), repeats=1, stride=2),
    Row(EXPANSION, (16, 24, 4), repeats=2, stride=1),
    Row(EXPANSION, (16, 40, 8), repeats=1, stride=2),
    Row(EXPANSION, (16, 40, 8), repeats=2, stride=1),
    Row(EXPANSION, (48, 80, 8), repeats=1, stride=2),
    Row(EXPANSION, (48, 80, 8), repeats=2, stride=1),
    Row(EXPANSION, (72, 112, 8), repeats=3, stride=1),
    Row(EXPANSION, (112, 184, 8), repeats=1, stride=2),
    Row(EXPANSION, (112, 184, 8), repeats=3, stride=1),
)


@SPACE_REGISTRY.register(name="FBNetV2-F")
def fbnetv2_f() -> NetworkSpace:
    """Table 1 with the first row of Table 2."""
    return imagenet_space("FBNetV2-F", 224, block_groups(FBNETV2_F_ROWS, FBNETV2_MICRO))


@SPACE_REGISTRY.register(name="FBNetV2-F-Fine")
def fbnetv2_f_fine() -> NetworkSpace:
    """FBNetV2-F in which every block chooses for itself."""
    groups = block_groups(FBNETV2_F_ROWS, FBNETV2_MICRO, per_block=True)
    return imagenet_space("FBNetV2-F-Fine", 224, groups)


@SPACE_REGISTRY.register(name="FBNetV2-F++")
def fbnetv2_fpp() -> NetworkSpace:
    """FBNetV2-F with Split-Attention in place of Squeeze-Excite (second row of Table 2)."""
    return imagenet_space("FBNetV2-F++", 224, block_groups(FBNETV2_F_ROWS, FP_NAS_MICRO))
