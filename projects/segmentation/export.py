"""Write a trained segmenter as ONNX, checked in ONNX Runtime on validation images.

python export.py --count 50 out/model_final.pth segmenter.onnx DATA.ROOT masks
"""

from __future__ import annotations

import sys

from torch import Tensor

from fpnas_segmentation.data import SegmentationSet, read_split
from fpnas_segmentation.export import Comparison, export_segmenter
from fpnas_segmentation.run import TrainedSegmenter, load_segmenter
from fpnas_tasks.scripts import export_main


def _read_images(segmenter: TrainedSegmenter) -> SegmentationSet:
    return read_split(segmenter.cfg, segmenter.cfg.SEGMENTATION.VAL_SPLIT)


def _export(
    segmenter: TrainedSegmenter, path: str, images: Tensor, threads: int
) -> tuple[Comparison, str]:
    found = export_segmenter(segmenter, path, images, threads)
    return found, (
        f"largest relative error {found.max_rel_error:.1e}, same class on "
        f"{found.agreement:.4f} % of the pixels of {len(images)} images"
    )


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    return export_main(__doc__, load_segmenter, _read_images, _export, argv)


if __name__ == "__main__":
    sys.exit(main())
