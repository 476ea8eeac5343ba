"""Write a trained RetinaNet or SSDLite as ONNX, checked in ONNX Runtime on validation images.

python export.py --count 50 out/model_final.pth detector.onnx DATA.ROOT bccd
"""

from __future__ import annotations

import sys

from torch import Tensor

from fpnas_detection.data import DetectionSet
from fpnas_detection.export import Comparison, export_detector
from fpnas_detection.inference import TrainedDetector, load_detector
from fpnas_detection.readers import read_data
from fpnas_tasks.scripts import export_main


def _read_images(detector: TrainedDetector) -> DetectionSet:
    return read_data(detector.cfg, detector.cfg.DETECTION.VAL_SPLIT, detector.classes)


def _export(
    detector: TrainedDetector, path: str, images: Tensor, threads: int
) -> tuple[Comparison, str]:
    found = export_detector(detector, path, images, threads)
    return found, (
        f"{found.detections} detections on {len(images)} images, boxes within "
        f"{found.max_difference:.2g} px of PyTorch's"
    )


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    return export_main(__doc__, load_detector, _read_images, _export, argv)


if __name__ == "__main__":
    sys.exit(main())
