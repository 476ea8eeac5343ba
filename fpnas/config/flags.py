"""The config on the command line: detectron2's flags and KEY VALUE overrides."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from fpnas.config import CfgNode, find_config, get_cfg
from fpnas.errors import UserError


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--config-file`` and the trailing ``KEY VALUE`` overrides."""
    parser.add_argument(
        "--config-file",
        default="",
        metavar="FILE",
        help="YAML file, or name of a shipped config ('fpnas configs' lists them); "
        "without it the defaults apply",
    )
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="config keys to override, after all flags: DATA.ROOT images SOLVER.EPOCHS 20",
    )


def add_launch_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--num-gpus --num-machines --machine-rank --dist-url``."""
    parser.add_argument(
        "--num-gpus",
        type=int,
        default=1,
        metavar="N",
        help="GPUs on this machine; without GPUs the number of processes (default: 1)",
    )
    parser.add_argument("--num-machines", type=int, default=1, metavar="N", help="default: 1")
    parser.add_argument(
        "--machine-rank", type=int, default=0, metavar="RANK", help="of this machine, from 0"
    )
    parser.add_argument(
        "--dist-url",
        default="auto",
        metavar="URL",
        help="where the processes meet: 'auto', or tcp://HOST:PORT of machine 0",
    )


def add_resume_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--resume`` and ``--allow-changes``."""
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint in OUTPUT_DIR, if config and images are the same",
    )
    parser.add_argument(
        "--allow-changes",
        action="store_true",
        help="with --resume: go on with another config or other images; the log lists them",
    )


def check_resume_arguments(args: argparse.Namespace) -> None:
    """Raise UserError if ``--allow-changes`` comes without ``--resume``."""
    if args.allow_changes and not args.resume:
        raise UserError("--allow-changes goes with --resume only.")


def config_from_args(
    args: argparse.Namespace, overrides: Mapping[str, str] | None = None
) -> CfgNode:
    """The frozen config: defaults, ``--config-file``, ``overrides`` (key to text), KEY VALUE."""
    check_overrides(args.opts)
    cfg = get_cfg()
    if args.config_file:
        cfg.merge_from_file(find_config(args.config_file))
    for key, text in (overrides or {}).items():
        cfg.merge_from_list([key, text])
    cfg.merge_from_list(args.opts)
    cfg.freeze()
    return cfg


def check_overrides(opts: Sequence[str]) -> None:
    """Raise UserError if a flag stands among the KEY VALUE overrides, where it would be a key."""
    flags = [text for text in opts[0::2] if text.startswith("-")]
    if flags:
        raise UserError(f"Flags come before the KEY VALUE overrides; move '{flags[0]}' forward.")
