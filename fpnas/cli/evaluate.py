"""Evaluate trained weights on the test images.

fpnas eval --config-file quick/train.yaml MODEL.ARCH architecture.yaml MODEL.WEIGHTS model_best.pth
fpnas eval --model efficientnet_lite0 DATA.ROOT imagenet

With --model the config is that of a published network ('fpnas zoo list --pretrained'), and classes
of the data are found among its own by their names, or by their synset ids for ImageNet. The config
of a training names the weights that it started from: name those that it ended with.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from fpnas.cli import train
from fpnas.cli.flags import (
    add_config_arguments,
    add_launch_arguments,
    config_from_args,
    launch_run,
)
from fpnas.config import CfgNode
from fpnas.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``fpnas train`` that an evaluation needs, and a published network."""
    parser.add_argument("--model", metavar="NAME", help="published network, in place of a config")
    add_launch_arguments(parser)
    add_config_arguments(parser)
    parser.set_defaults(resume=False, allow_changes=False, eval_only=True)


def run(args: argparse.Namespace) -> int:
    """``fpnas train --eval-only``, or the evaluation of a published network."""
    if args.model is None:
        return train.run(args)
    if args.config_file:
        raise UserError("Give --model or --config-file, not both: a model brings its config.")
    launch_run(evaluate_published, published_config(args), args)
    return 0


def published_config(
    args: argparse.Namespace, overrides: Mapping[str, str] | None = None
) -> CfgNode:
    """The frozen config of ``--model``, which goes without ``--config-file``.

    ``overrides``: as those of :func:`config_from_args`.
    """
    from fpnas import model_zoo

    # An architecture without weights has nothing to evaluate or export.
    model_zoo.get_record(args.model)
    return config_from_args(args, overrides, model_zoo.get_config(args.model))


def evaluate_published(cfg: CfgNode, args: argparse.Namespace) -> None:
    """One process of the evaluation of a published network."""
    from fpnas import model_zoo
    from fpnas.training import run_evaluation

    run_evaluation(cfg, model_zoo.info(args.model).record.class_names)
