"""FP-NAS-L0, L1 and L2: RECONSTRUCTED macro tables.

The paper prints only input size, number of blocks, number of architectures and median FLOPs
(Table 3); the tables themselves stand in a supplement that is not available. These were designed
to reproduce the printed figures. The expansion range, stem and head are those of Table 1, the
micro-architecture is the second row of Table 2.
"""

from __future__ import annotations

from fpnas.spaces.macro import EXPANSION, FP_NAS_MICRO, Row, block_groups, imagenet_space
from fpnas.spaces.network import NetworkSpace
from fpnas.spaces.registry import SPACE_REGISTRY

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
