"""Intersection over union of a trained segmenter on the validation images.

python evaluate.py --picture picture.png out/model_final.pth DATA.ROOT masks
"""

from __future__ import annotations

import argparse
import sys

from torchvision.transforms.v2.functional import to_pil_image

from fpnas.cli.flags import check_overrides
from fpnas.cli.main import guarded
from fpnas.config.checks import check_value
from fpnas_segmentation.data import SegmentationSet, read_split
from fpnas_segmentation.evaluate import evaluate, overlay, predict
from fpnas_segmentation.run import TrainedSegmenter, load_segmenter
from fpnas_tasks.photo_grid import photo_grid, picture_file
from fpnas_tasks.scripts import add_weights_arguments, parser_of


def run(args: argparse.Namespace) -> int:
    """Print one line for each figure, and draw."""
    check_overrides(args.opts)
    check_value("--count", args.count, args.count >= 1, "at least 1")
    segmenter = load_segmenter(args.weights, args.opts)
    cfg = segmenter.cfg
    data = read_split(cfg, cfg.SEGMENTATION.VAL_SPLIT)
    picture = picture_file(args.picture) if args.picture else None
    scores = evaluate(segmenter.model, data, cfg.DATA.INPUT_SIZE, segmenter.classes)
    for name, value in scores.items():
        print(f"{name:24} {value:.4f}")
    if picture:
        rows = range(min(args.count, len(data)))
        shown = [part for index in rows for part in _row(segmenter, data, index)]
        to_pil_image(photo_grid(shown, columns=3, width=320)).save(picture)
    return 0


def _row(segmenter: TrainedSegmenter, data: SegmentationSet, index: int) -> list:
    """Image, mask and prediction."""
    image, mask = data.pair(index)
    found = predict(segmenter.model, image, segmenter.cfg.DATA.INPUT_SIZE)
    return [image, *(overlay(image, m, data.num_classes) for m in (mask, found))]


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = parser_of(__doc__)
    parser.add_argument("--picture", help="file for image, mask and prediction side by side")
    parser.add_argument("--count", type=int, default=4, help="images in it (default: 4)")
    add_weights_arguments(parser)
    return guarded(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
