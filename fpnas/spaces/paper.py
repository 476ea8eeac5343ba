"""What the paper prints about its spaces, to be shown beside what we count."""

from __future__ import annotations

from typing import NamedTuple


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
