"""Search an architecture for your images under a budget.

Writes the found architecture (architecture.yaml), the same with the supernet's weights
(network.pth), the search result with its most probable architectures, a report and checkpoints into
OUTPUT_DIR. An interrupted search goes on with --resume.

  fpnas search --config-file quick/search.yaml OUTPUT_DIR out/search
"""

from __future__ import annotations

import argparse

from fpnas.cli.flags import (
    add_config_arguments,
    add_launch_arguments,
    add_resume_arguments,
    check_resume_arguments,
    config_from_args,
    launch_run,
)
from fpnas.config import CfgNode


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """detectron2's flags."""
    add_resume_arguments(parser)
    add_launch_arguments(parser)
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Search in as many processes as asked for."""
    check_resume_arguments(args)
    launch_run(run_worker, config_from_args(args), args)
    return 0


def run_worker(cfg: CfgNode, args: argparse.Namespace) -> None:
    """One process of a search."""
    from fpnas.search.run import run_search

    run_search(cfg, resume=args.resume, allow_changes=args.allow_changes)
