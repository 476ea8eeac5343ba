"""The flags that commands share, detectron2's, and what they say: a config, processes to start."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fpnas.config import CfgNode, find_config, get_cfg
from fpnas.errors import UserError

_WEIGHTS = (".pth", ".safetensors")  # endings of files, which no published network's name has

Worker = Callable[[CfgNode, argparse.Namespace], None]


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


def add_model_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--model``, for :func:`config_from_model`."""
    parser.add_argument(
        "--model", metavar="NAME|FILE", help="published or trained network to start from"
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
    args: argparse.Namespace,
    overrides: Mapping[str, str] | None = None,
    start: CfgNode | None = None,
) -> CfgNode:
    """The frozen config: ``start``, ``--config-file``, ``overrides`` (key to text), KEY VALUE.

    ``start``: the defaults, to change; None: those of fpnas.
    """
    check_overrides(args.opts)
    cfg = get_cfg() if start is None else start
    if args.config_file:
        cfg.merge_from_file(find_config(args.config_file))
    for key, text in (overrides or {}).items():
        cfg.merge_from_list([key, text])
    cfg.merge_from_list(args.opts)
    cfg.freeze()
    return cfg


def config_from_model(args: argparse.Namespace, recipe: str) -> CfgNode:
    """The frozen config: of ``--config-file`` or ``recipe``, what ``--model`` brings, KEY VALUE.

    Raises UserError on an unknown name and on a file that does not describe its network.
    """
    from fpnas.model_zoo import get_record, start_from
    from fpnas.training import start_from_file

    start = get_cfg()
    start.merge_from_file(find_config(args.config_file or recipe))
    if args.model.endswith(_WEIGHTS):
        start_from_file(start, args.model)
    else:
        start_from(start, get_record(args.model))
    return config_from_args(argparse.Namespace(config_file="", opts=args.opts), start=start)


def check_overrides(opts: Sequence[str]) -> None:
    """Raise UserError if a flag stands among the KEY VALUE overrides, where it would be a key."""
    flags = [text for text in opts[0::2] if text.startswith("-")]
    if flags:
        raise UserError(f"Flags come before the KEY VALUE overrides; move '{flags[0]}' forward.")


def check_weights_are_final(args: argparse.Namespace, cfg: CfgNode) -> None:
    """Raise UserError if a training left a model_final.pth that MODEL.WEIGHTS does not name.

    It is looked for in the folder of ``args.config_file`` and in the OUTPUT_DIR of that file, whose
    MODEL.WEIGHTS is what the training started from. Weights that stand on the command line, in
    ``args.weights`` or ``args.opts``, are meant.
    """
    if not args.config_file or getattr(args, "weights", None) or "MODEL.WEIGHTS" in args.opts[0::2]:
        return
    file = find_config(args.config_file)
    training = get_cfg()
    training.merge_from_file(file)
    for folder in (file.parent, Path(training.OUTPUT_DIR)):
        final = folder / "model_final.pth"
        if final.is_file() and final.resolve() != Path(cfg.MODEL.WEIGHTS).resolve():
            start = cfg.MODEL.WEIGHTS
            found = f"is '{start}', which its training started from" if start else "is empty"
            raise UserError(
                f"MODEL.WEIGHTS of '{args.config_file}' {found}; it ended with '{final}'. Say "
                f"which is meant, after all flags: MODEL.WEIGHTS {final}"
            )


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


def print_next(*commands: Sequence[str]) -> None:
    """Say which commands usually follow, ready to be pasted into a shell."""
    print("\nNext:")
    for command in commands:
        print(f"  {shlex.join(command)}")


def _with_console_log(worker: Worker, cfg: CfgNode, args: argparse.Namespace) -> None:
    """Show what happens from the start; the run adds log.txt once it knows its input is good."""
    from fpnas.utils.logger import setup_logger

    setup_logger()
    worker(cfg, args)
