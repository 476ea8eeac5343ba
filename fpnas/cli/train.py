"""Train an architecture, from scratch or from given weights.

MODEL.ARCH is a registered name or the architecture.yaml that a search wrote; without it the
architecture is that of MODEL.WEIGHTS, such as a model_final.pth. Checkpoints, metrics and a report
go to OUTPUT_DIR. An interrupted training goes on with --resume.

  fpnas train --config-file quick/train.yaml MODEL.ARCH out/search/architecture.yaml
  fpnas train --model efficientnet_lite0 DATA.ROOT photos

--model fine-tunes a published network ('fpnas zoo list --pretrained'), or one of a file such as
model_final.pth or a search's network.pth: its architecture, weights and preprocessing, with the
recipe quick/finetune.yaml unless --config-file names another.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fpnas.cli.flags import (
    add_config_arguments,
    add_launch_arguments,
    add_model_argument,
    add_resume_arguments,
    check_resume_arguments,
    check_weights_are_final,
    config_from_args,
    config_from_model,
    launch_run,
    print_next,
)
from fpnas.config import CfgNode
from fpnas.errors import UserError

_FINE_TUNING = "quick/finetune.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """detectron2's flags."""
    add_model_argument(parser)
    add_resume_arguments(parser)
    parser.add_argument(
        "--eval-only", action="store_true", help="only evaluate MODEL.WEIGHTS, as 'fpnas eval' does"
    )
    add_launch_arguments(parser)
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Train (or evaluate) in as many processes as asked for."""
    check_resume_arguments(args)
    cfg = _config(args)
    if args.eval_only:
        check_weights_are_final(args, cfg)
    launch_run(run_worker, cfg, args)
    if not args.eval_only:
        print_next(_next_command(cfg))
    return 0


def _next_command(cfg: CfgNode) -> list[str]:
    """The export of the network that was trained."""
    folder = Path(cfg.OUTPUT_DIR)
    command = ["fpnas", "export", "--config-file", str(folder / "config.yaml")]
    command += ["--weights", str(folder / "model_final.pth"), "--formats", "onnx,onnx-int8"]
    return [*command, "--output-dir", str(folder / "export")]


def _config(args: argparse.Namespace) -> CfgNode:
    """The frozen config: of the file, what ``--model`` brings, KEY VALUE."""
    if args.model is None:
        return config_from_args(args)
    if args.eval_only:
        raise UserError("--model is what a training starts from; 'fpnas eval --model' evaluates.")
    return config_from_model(args, _FINE_TUNING)


def run_worker(cfg: CfgNode, args: argparse.Namespace) -> None:
    """One process of a training or an evaluation."""
    from fpnas.training import run_evaluation, run_training

    if args.eval_only:
        run_evaluation(cfg)
    else:
        run_training(cfg, resume=args.resume, allow_changes=args.allow_changes)
