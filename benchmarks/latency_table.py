"""How well a table of block latencies predicts whole networks in ONNX Runtime.

    python benchmarks/latency_table.py --space FP-NAS-Micro --input-size 28 --architectures 20 \
        --threads 1 --table OUT.json

builds random architectures of the space, sums the latencies of their blocks (measured where the
table lacks them, batch of one, float32, BatchNorm folded), exports and times each network whole,
and prints relative errors and the rank correlation. If a constant intercept reduces the median
error on networks that it was not fitted to, it is kept in the table. ``--all-blocks`` measures
every block of the space first, so that a search with this table measures nothing.

Let nothing else run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

import numpy as np
import torch
from latency_errors import LatencyReport, error_report, kendall_tau
from tabulate import tabulate

from fpnas.errors import UserError
from fpnas.latency import LatencyTable
from fpnas.spaces import get_space


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", default="FP-NAS-Micro", help="name in SPACE_REGISTRY")
    parser.add_argument("--input-size", type=int, help="px; default: the space's own")
    parser.add_argument("--architectures", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1, help="of one call")
    parser.add_argument("--table", type=Path, required=True, help="JSON file, read if it exists")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all-blocks", action="store_true", help="measure the whole space first")
    return parser


def main(argv: Sequence[str] | None = None) -> LatencyReport:
    args = parser().parse_args(argv)
    space = get_space(args.space).at(input_size=args.input_size)
    table = LatencyTable(args.table, args.threads)
    start, known = time.perf_counter(), len(table)
    if args.all_blocks:
        table.measure(space)
        seconds = time.perf_counter() - start
        print(f"{len(table) - known} blocks measured in {seconds:.0f} s")
    report = error_report(table, space, args.architectures, args.seed)
    print_report(report, table)
    # The same architectures: what a search for few FLOPs would go by.
    choices = space.sample(args.architectures, torch.Generator().manual_seed(args.seed))
    by_flops = kendall_tau(space.flops(choices).double().numpy(), np.array(report.measured))
    print(
        "Kendall rank correlation with the measured time: "
        f"{report.rank_correlation:.3f} (FLOPs: {by_flops:.3f})"
    )
    if args.all_blocks:
        choices = space.sample(1000, torch.Generator().manual_seed(args.seed))
        cost = table.cost(space)
        cost(choices)
        start = time.perf_counter()
        cost(choices)
        print(f"A known architecture costs {1e3 * (time.perf_counter() - start):.2f} µs to look up")
    if report.intercept_helps:
        source = f"{args.architectures} networks of {args.space} at {space.input_size} px"
        table.calibrate(report.intercept_ms, source)
        print(f"The intercept reduces the error: kept in {args.table}.")
    else:
        table.calibrate(0.0, "")
        print("The intercept does not reduce the error: the table goes without.")
    return report


def print_report(report: LatencyReport, table: LatencyTable) -> None:
    """Errors as a table, and what they were measured on."""
    print(", ".join(f"{key}: {value}" for key, value in table.machine.items()))
    low, high = min(report.measured), max(report.measured)
    print(
        f"{len(report.measured)} networks of {low:.4g} to {high:.4g} ms; {len(table)} blocks known"
    )
    rows = [
        ("sum of blocks", *astuple(report.plain)),
        (f"with intercept {1e3 * report.intercept_ms:+.1f} µs", *astuple(report.with_intercept)),
    ]
    headers = ["prediction", "median error %", "p90 error %", "mean signed error %"]
    print(tabulate(rows, headers=headers, floatfmt=".2f"))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"latency_table: {error}")
