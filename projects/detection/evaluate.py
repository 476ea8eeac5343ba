"""Average precision of a trained detector on the validation images.

python evaluate.py out/model_final.pth DATA.ROOT bccd
"""

from __future__ import annotations

import argparse
import sys

from fpnas.cli.flags import check_overrides
from fpnas.cli.main import guarded
from fpnas_detection.evaluate import evaluate
from fpnas_detection.inference import load_detector
from fpnas_detection.readers import read_data
from fpnas_tasks.scripts import add_weights_arguments, parser_of


def run(args: argparse.Namespace) -> int:
    """Print one line for each figure."""
    check_overrides(args.opts)
    detector = load_detector(args.weights, args.opts)
    cfg = detector.cfg
    data = read_data(cfg, cfg.DETECTION.VAL_SPLIT, detector.classes)
    for name, value in evaluate(detector.model, data, cfg.DATA.INPUT_SIZE).items():
        print(f"{name:24} {value:.4f}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = parser_of(__doc__)
    add_weights_arguments(parser)
    return guarded(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
