"""Train a detector.

  python train.py --config-file configs/bccd_retinanet_lite0.yaml DATA.ROOT bccd OUTPUT_DIR out

Checkpoints, log.txt, metrics.json and result.yaml go to OUTPUT_DIR. Ctrl-C saves; the same command
with --resume goes on.
"""

from __future__ import annotations

import sys

from fpnas_detection.config import config_from_args
from fpnas_detection.run import run_training
from fpnas_tasks.scripts import train_main


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    return train_main(__doc__, config_from_args, run_training, argv)


if __name__ == "__main__":
    sys.exit(main())
