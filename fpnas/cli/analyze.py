"""Print a search space or an architecture as a table.

  fpnas analyze --space FBNetV2-F
  fpnas analyze --arch architecture.yaml
  fpnas analyze --config-file search/ImageNet100-S1.yaml

A space: its choices, its number of architectures, and its cost, with the paper's figures beside
ours. An architecture: its layers with shapes and cost. FLOPs are multiply-adds of convolutions and
linear layers; params are their weights.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from fpnas.cli.flags import add_config_arguments, config_from_args
from fpnas.errors import UserError

if TYPE_CHECKING:
    from fpnas.config import CfgNode


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to print: a space, an architecture, or that of a config."""
    parser.add_argument("--space", metavar="NAME", help="a registered search space")
    parser.add_argument(
        "--arch", metavar="NAME|FILE", help="a registered architecture or a YAML file"
    )
    parser.add_argument(
        "--input-size", type=int, metavar="PX", help="default: that of space or arch"
    )
    parser.add_argument(
        "--samples",
        type=int,
        default=4000,
        metavar="N",
        help="architectures drawn for the median cost of a space (default: 4000)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of these draws (default: 0)")
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    if args.input_size is not None and args.input_size < 1:
        raise UserError(f"--input-size must be at least 1 px, found {args.input_size}.")
    if args.samples < 1:
        raise UserError(f"--samples must be at least 1, found {args.samples}.")
    cfg = config_from_args(args)
    if args.space and args.arch:
        raise UserError("Give --space or --arch, not both.")
    if args.space:
        print(_space_report(args, cfg))
    elif args.arch:
        print(_arch_report(args.arch, args.input_size))
    elif cfg.MODEL.ARCH:
        print(_arch_report(cfg.MODEL.ARCH, args.input_size or cfg.DATA.INPUT_SIZE))
    elif args.config_file or args.opts:
        print(_space_report(args, cfg))
    else:
        raise UserError(
            "Say what to analyze: --space NAME, --arch NAME|FILE or --config-file FILE."
        )
    return 0


def _space_report(args: argparse.Namespace, cfg: CfgNode) -> str:
    """Of ``--space``, or of a search config at the size at which its budget is counted."""
    from fpnas.search.pretrained import search_space
    from fpnas.search.space_report import space_report
    from fpnas.spaces import get_space

    if args.space:
        space = get_space(args.space).at(args.input_size)
    else:
        size = args.input_size or cfg.SEARCH.COST_INPUT_SIZE or cfg.DATA.INPUT_SIZE
        space = search_space(cfg).at(size, cfg.SEARCH.COST_NUM_CLASSES or None)
    return space_report(space, samples=args.samples, seed=args.seed)


def _arch_report(name: str, input_size: int | None) -> str:
    from fpnas.archs import get_arch
    from fpnas.report.legend import architecture_report

    return architecture_report(get_arch(name), input_size)
