"""The paper's spaces, and what it prints about them, to be shown beside what we count.

FBNetV2-F and its two variants stand in the paper (section 4). FP-NAS-L0, L1 and L2 are
RECONSTRUCTED: the paper prints only input size, number of blocks, number of architectures and
median FLOPs (Table 3); the macro tables themselves stand in a supplement that is not available.
Ours were designed to reproduce the printed figures. The expansion range, stem and head are those
of Table 1, the micro-architecture is the second row of Table 2.
"""

from __future__ import annotations

from typing import NamedTuple

from fpnas.blocks import ConvSpec, HeadSpec
from fpnas.spaces.block_group import BlockGroup, Row, block_groups
from fpnas.spaces.network import SPACE_REGISTRY, NetworkSpace

# Table 2. Kernel 0 is the skip. One split is Squeeze-Excite.
FBNETV2_MICRO = {"kernel": (0, 3, 5), "act": ("relu", "swish"), "splits": (0, 1)}
FP_NAS_MICRO = {"kernel": (0, 3, 5), "act": ("relu", "swish"), "splits": (0, 1, 2, 4)}

# The expansion range of Table 1, (0.75, 4.5, 0.75).
EXPANSION = (0.75, 1.5, 2.25, 3.0, 3.75, 4.5)


class PaperFigures(NamedTuple):
    """Printed figures; None where the paper gives none."""

    num_architectures: float
    input_size: int | None  # px
    num_blocks: int | None  # MBConv blocks
    median_flops: float | None  # multiply-adds
    source: str  # where they are printed


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


def imagenet_space(name: str, input_size: int, groups: list[BlockGroup]) -> NetworkSpace:
    """The groups between the stem and the head of Table 1.

    The table does not print their activation; Swish is our choice.
    """
    return NetworkSpace(
        name,
        input_size,
        stem=ConvSpec(channels=16, kernel=3, stride=2, act="swish"),
        block_groups=groups,
        head=HeadSpec(channels=1984, num_classes=1000, act="swish"),
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
