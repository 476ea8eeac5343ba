"""Search an architecture for your images under a budget.

Writes the found architecture (architecture.yaml), the same with the supernet's weights
(network.pth), the search result with its most probable architectures, a report and checkpoints into
OUTPUT_DIR. An interrupted search goes on with --resume.

  fpnas search --model efficientnet_lite0 DATA.ROOT photos SEARCH.TARGET 100e6
  fpnas search --config-file quick/search.yaml OUTPUT_DIR out/search

--model starts from a trained network, published ('fpnas zoo list --pretrained') or of a file such
as model_final.pth: what it becomes when some of it is cut away, with the recipe search/photos.yaml
unless --config-file names another. It is the way for photos of your own.
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
    config_from_args,
    config_from_model,
    launch_run,
    print_next,
)
from fpnas.config import CfgNode

_FROM_MODEL = "search/photos.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """detectron2's flags, and the network to start from."""
    add_model_argument(parser)
    add_resume_arguments(parser)
    add_launch_arguments(parser)
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Search in as many processes as asked for."""
    check_resume_arguments(args)
    cfg = config_from_args(args) if args.model is None else config_from_model(args, _FROM_MODEL)
    launch_run(run_worker, cfg, args)
    print_next(*_next_commands(cfg))
    return 0


def _next_commands(cfg: CfgNode) -> list[list[str]]:
    """The training of each network that was found."""
    from fpnas.search.pretrained import FULL

    folder = Path(cfg.OUTPUT_DIR)
    targets = sorted(folder.glob("target-*/network.pth"))
    teacher = folder / FULL / "model_final.pth"
    commands = []
    for network in targets or [folder / "network.pth"]:
        to = folder.with_name(f"{folder.name}-trained")
        out = to if len(targets) < 2 else to / network.parent.name
        command = ["fpnas", "train", "--model", str(network)]
        if cfg.DATA.NAME != "image_folder":  # which is what the recipe says
            command += ["DATA.NAME", cfg.DATA.NAME]
        command += ["DATA.ROOT", cfg.DATA.ROOT] if cfg.DATA.ROOT else []
        command += ["SOLVER.DISTILL.WEIGHTS", str(teacher)] if teacher.exists() else []
        commands.append([*command, "OUTPUT_DIR", str(out)])
    return commands


def run_worker(cfg: CfgNode, args: argparse.Namespace) -> None:
    """One process of a search."""
    from fpnas.search.run import run_search

    run_search(cfg, resume=args.resume, allow_changes=args.allow_changes)
