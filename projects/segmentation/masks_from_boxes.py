"""Make masks of round objects from the boxes of a data set in Pascal VOC's layout.

python masks_from_boxes.py bccd masks --classes RBC WBC Platelets
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fpnas.cli.main import guarded
from fpnas_segmentation.box_masks import write_split
from fpnas_tasks.scripts import parser_of


def run(args: argparse.Namespace) -> int:
    """Write all splits."""
    for split in args.splits:
        share = write_split(args.voc, args.output, split, args.classes)
        print(f"{split}: objects of different classes overlap on {share:.2%} of their pixels")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = parser_of(__doc__)
    parser.add_argument("voc", type=Path, help="folder in VOC's layout")
    parser.add_argument("output", type=Path, help="folder for images and masks")
    parser.add_argument(
        "--classes", nargs="+", required=True, help="number 1 and so on; later ones lie on top"
    )
    parser.add_argument("--splits", nargs="+", default=["train", "val"], help="(default: both)")
    return guarded(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
