"""Starts the processes of a run."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from fpnas.config import CfgNode

Worker = Callable[[CfgNode, argparse.Namespace], None]


def launch_run(worker: Worker, cfg: CfgNode, args: argparse.Namespace) -> None:
    """Call ``worker(cfg, args)`` in as many processes as the flags ask for.

    ``worker`` is a function of a module, so that new processes can import it.
    """
    from fpnas.engine import launch

    launch(
        _with_console_log,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(worker, cfg, args),
    )


def _with_console_log(worker: Worker, cfg: CfgNode, args: argparse.Namespace) -> None:
    """Show what happens from the start; the run adds log.txt once it knows its input is good."""
    from fpnas.utils.logger import setup_logger

    setup_logger()
    worker(cfg, args)
