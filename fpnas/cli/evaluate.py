"""Evaluate trained weights on the test images.

fpnas eval --config-file quick/train.yaml MODEL.ARCH architecture.yaml MODEL.WEIGHTS model_best.pth
"""

from __future__ import annotations

import argparse

from fpnas.cli import train
from fpnas.config.flags import add_config_arguments, add_launch_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``fpnas train`` that an evaluation needs."""
    add_launch_arguments(parser)
    add_config_arguments(parser)
    parser.set_defaults(resume=False, eval_only=True)


def run(args: argparse.Namespace) -> int:
    """``fpnas train --eval-only``."""
    return train.run(args)
