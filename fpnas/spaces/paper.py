"""The paper's spaces, and what it prints about them, to be shown beside what we count.

FBNetV2-F and its two variants stand in the paper (section 4). FP-NAS-L0, L1 and L2 are
RECONSTRUCTED: the paper prints only input size, number of blocks, number of architectures and
median FLOPs (Table 3); the macro tables themselves stand in a supplement that is not available.
Ours were designed to reproduce the printed figures. The expansion range, stem and head are those
of Table 1, the micro-architecture is the second row of Table 2.
"""

from __future__ import annotations

from typing import NamedTuple

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


class PaperFigures(NamedTuple):
    """Printed figures; None where the paper gives none.

    Attributes:
        num_architectures: size of the space.
        input_size: px.
        num_blocks: MBConv blocks.
        median_flops: multiply-adds.
        source: where it is printed.
    """

    num_architectures: float
    input_size: int | None
    num_blocks: int | None
    median_flops: float | None
    source: str


PAPER_FIGURES: dict[str, PaperFigures] = {
    "FBNetV2-F": PaperFigures(6e25, None, None, None, "section 4, Table 4"),
    "FBNetV2-F-Fine": PaperFigures(1e45, None, None, None, "section 4, Table 4"),
    "FBNetV2-F++": PaperFigures(6e28, None, None, None, 'section 4, "10^3 x larger" than F'),
    "FP-NAS-L0": PaperFigures(2e32, 224, 27, 0.39e9, "Table 3"),
    "FP-NAS-L1": PaperFigures(1e36, 240, 32, 0.9e9, "Table 3"),
    "FP-NAS-L2": PaperFigures(1e36, 256, 32, 1.1e9, "Table 3"),
}


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


# Our reconstructions.
FP_NAS_L0_ROWS = (
    Row((1,), (16, 24, 4), repeats=1, stride=1),
    Row(EXPANSION, (24, 40, 4), repeats=1, stride=2),
    Row(EXPANSION, (24, 40, 4), repeats=3, stride=1),
    Row(EXPANSION, (48, 80, 8), repeats=1, stride=2),
    Row(EXPANSION, (48, 80, 8), repeats=4, stride=1),
    Row(EXPANSION, (96, 152, 8), repeats=1, stride=2),
    Row(EXPANSION, (96, 152, 8), repeats=4, stride=1),
    Row(EXPANSION, (120, 184, 8), repeats=4, stride=1),
    Row(EXPANSION, (184, 272, 8), repeats=1, stride=2),
    Row(EXPANSION, (184, 272, 8), repeats=4, stride=1),
    Row(EXPANSION, (208, 304, 8), repeats=3, stride=1),
)

FP_NAS_L1_ROWS = (
    Row((1,), (16, 24, 4), repeats=1, stride=1),
    Row(EXPANSION, (32, 48, 4), repeats=1, stride=2),
    Row(EXPANSION, (32, 48, 4), repeats=4, stride=1),
    Row(EXPANSION, (72, 112, 8), repeats=1, stride=2),
    Row(EXPANSION, (72, 112, 8), repeats=5, stride=1),
    Row(EXPANSION, (120, 184, 8), repeats=1, stride=2),
    Row(EXPANSION, (120, 184, 8), repeats=4, stride=1),
    Row(EXPANSION, (144, 216, 8), repeats=4, stride=1),
    Row(EXPANSION, (168, 240, 8), repeats=4, stride=1),
    Row(EXPANSION, (256, 368, 8), repeats=1, stride=2),
    Row(EXPANSION, (256, 368, 8), repeats=3, stride=1),
    Row(EXPANSION, (272, 392, 8), repeats=3, stride=1),
)

# L1 with wider later stages and the same cardinalities.
FP_NAS_L2_ROWS = (
    *FP_NAS_L1_ROWS[:3],
    Row(EXPANSION, (80, 120, 8), repeats=1, stride=2),
    Row(EXPANSION, (80, 120, 8), repeats=5, stride=1),
    Row(EXPANSION, (128, 192, 8), repeats=1, stride=2),
    Row(EXPANSION, (128, 192, 8), repeats=4, stride=1),
    Row(EXPANSION, (160, 232, 8), repeats=4, stride=1),
    Row(EXPANSION, (184, 256, 8), repeats=4, stride=1),
    Row(EXPANSION, (272, 384, 8), repeats=1, stride=2),
    Row(EXPANSION, (272, 384, 8), repeats=3, stride=1),
    Row(EXPANSION, (288, 408, 8), repeats=3, stride=1),
)


@SPACE_REGISTRY.register(name="FP-NAS-L0")
def fp_nas_l0() -> NetworkSpace:
    """Our reconstruction from Table 3: median 0.39 GFLOPs at 224 px."""
    return imagenet_space("FP-NAS-L0", 224, block_groups(FP_NAS_L0_ROWS, FP_NAS_MICRO))


@SPACE_REGISTRY.register(name="FP-NAS-L1")
def fp_nas_l1() -> NetworkSpace:
    """Our reconstruction from Table 3: median 0.9 GFLOPs at 240 px."""
    return imagenet_space("FP-NAS-L1", 240, block_groups(FP_NAS_L1_ROWS, FP_NAS_MICRO))


@SPACE_REGISTRY.register(name="FP-NAS-L2")
def fp_nas_l2() -> NetworkSpace:
    """Our reconstruction from Table 3: median 1.1 GFLOPs at 256 px."""
    return imagenet_space("FP-NAS-L2", 256, block_groups(FP_NAS_L2_ROWS, FP_NAS_MICRO))
