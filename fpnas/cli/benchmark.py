"""Time exported files in their runtimes on this machine.

  fpnas benchmark out/export/model.onnx out/export/model.int8.onnx --threads 1 2

Takes any file that 'fpnas export' writes; the runtime follows from the ending of its name. Calls
take one batch of noise. --profile adds, for ONNX files, the operators that take longest.

A .pt2 or .torchscript.pt file can run code; one that was not exported on this machine is refused
without --trust.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fpnas.errors import UserError

if TYPE_CHECKING:
    from fpnas.export.timing import FileTiming


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which files, how often, with how many threads."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="exported files")
    parser.add_argument("--threads", nargs="+", type=int, default=[1], metavar="N")
    parser.add_argument("--warmup", type=int, default=10, metavar="N", help="calls before timing")
    parser.add_argument("--runs", type=int, default=100, metavar="N", help="timed calls")
    parser.add_argument(
        "--trust", action="store_true", help="also load files from elsewhere that can run code"
    )
    parser.add_argument("--profile", action="store_true", help="operators of ONNX files")


def run(args: argparse.Namespace) -> int:
    """Print a row for each file and number of threads."""
    for name, value, least in (("runs", args.runs, 1), ("warmup", args.warmup, 0)):
        if value < least:
            raise UserError(f"--{name} must be at least {least}, found {value}.")
    if min(args.threads) < 1:
        raise UserError(f"--threads must be at least 1, found {min(args.threads)}.")
    from fpnas.export.timing import profile_operators, time_file

    timings = [
        time_file(file, threads, args.warmup, args.runs, args.trust)
        for file in args.files
        for threads in args.threads
    ]
    print(_table(timings))
    if args.profile:
        for file in args.files:
            try:
                found = profile_operators(file, args.runs)
            except UserError as error:  # it has been timed, so nothing is wrong with the file
                print(f"\n{error}")
                continue
            print(f"\n{file.name}, 1 thread, share of the time:")
            for operator, share, count in found:
                print(f"  {100 * share:5.1f} %  {operator} ({count})")
    return 0


def _table(timings: Sequence[FileTiming]) -> str:
    from tabulate import tabulate

    rows = [
        (t.file.name, t.format, t.file.stat().st_size / 1e6, t.threads, t.median_ms, t.p90_ms)
        for t in timings
    ]
    headers = ["file", "format", "MB", "threads", "median ms", "p90 ms"]
    return tabulate(rows, headers, floatfmt=("", "", ".2f", "", ".3f", ".3f"))
