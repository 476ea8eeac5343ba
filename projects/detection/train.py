"""Train a detector.

  python train.py --config-file configs/bccd_retinanet_lite0.yaml DATA.ROOT bccd OUTPUT_DIR out

Checkpoints, log.txt, metrics.json and result.yaml go to OUTPUT_DIR. Ctrl-C saves; the same command
with --resume goes on.
"""

from __future__ import annotations

import argparse
import sys

from fpnas.cli.main import guarded
from fpnas.config.flags import (
    add_config_arguments,
    add_resume_arguments,
    check_resume_arguments,
)
from fpnas_detection.config import config_from_args
from fpnas_detection.run import run_training


def run(args: argparse.Namespace) -> int:
    """Train as the flags say."""
    check_resume_arguments(args)
    cfg = config_from_args(args)
    run_training(cfg, resume=args.resume, allow_changes=args.allow_changes)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_resume_arguments(parser)
    add_config_arguments(parser)
    return guarded(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
