"""Train an architecture, from scratch or from given weights.

MODEL.ARCH is a registered name or the architecture.yaml that a search wrote. Checkpoints, metrics
and a report go to OUTPUT_DIR. An interrupted training goes on with --resume.

  fpnas train --config-file quick/train.yaml MODEL.ARCH out/search/architecture.yaml
"""

from __future__ import annotations

import argparse

from fpnas.cli.final_weights import check_weights_are_final
from fpnas.cli.launching import launch_run
from fpnas.config import CfgNode
from fpnas.config.flags import (
    add_config_arguments,
    add_launch_arguments,
    add_resume_arguments,
    check_resume_arguments,
    config_from_args,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """detectron2's flags."""
    add_resume_arguments(parser)
    parser.add_argument(
        "--eval-only", action="store_true", help="only evaluate MODEL.WEIGHTS, as 'fpnas eval' does"
    )
    add_launch_arguments(parser)
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Train (or evaluate) in as many processes as asked for."""
    check_resume_arguments(args)
    cfg = config_from_args(args)
    if args.eval_only:
        check_weights_are_final(args, cfg)
    launch_run(run_worker, cfg, args)
    return 0


def run_worker(cfg: CfgNode, args: argparse.Namespace) -> None:
    """One process of a training or an evaluation."""
    from fpnas.training import run_evaluation, run_training

    if args.eval_only:
        run_evaluation(cfg)
    else:
        run_training(cfg, resume=args.resume, allow_changes=args.allow_changes)
