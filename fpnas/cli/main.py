"""Parses the command line, runs the subcommand, and turns users' errors into one paragraph."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import fpnas
from fpnas.cli import (
    analyze,
    benchmark,
    configs,
    evaluate,
    export,
    predict,
    quickstart,
    search,
    train,
    zoo,
)
from fpnas.errors import UserError

COMMANDS = {
    "search": search,
    "train": train,
    "eval": evaluate,
    "predict": predict,
    "export": export,
    "benchmark": benchmark,
    "analyze": analyze,
    "zoo": zoo,
    "configs": configs,
    "quickstart": quickstart,
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``fpnas`` with all its subcommands."""
    parser = argparse.ArgumentParser(
        prog="fpnas",
        description="Search, train and export small image classifiers (FP-NAS).",
        epilog="'fpnas COMMAND --help' explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"fpnas {fpnas.__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        summary = module.__doc__.strip().splitlines()[0]
        subparser = subparsers.add_parser(
            name,
            help=summary.rstrip(".").replace("%", "%%"),
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code: 0, or 2 after a user's error.

    ``argv``: the arguments without the program's name; by default those of the process.
    """
    args = build_parser().parse_args(argv)
    return guarded(args.run, args)


def guarded(run, args: argparse.Namespace) -> int:
    """``run(args)``, with a UserError printed as one paragraph on stderr and exit code 2.

    An interrupt that a run has handled (checkpoint saved) passes through with its own exit code.
    """
    try:
        return run(args)
    except UserError as error:
        print(f"fpnas: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
