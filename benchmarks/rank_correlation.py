"""Does a supernet rank architectures as their stand-alone trainings do, and what makes it do so?

    python benchmarks/rank_correlation.py standalone --data cifar10 --output-dir out/ranks
    python benchmarks/rank_correlation.py supernet   --data cifar10 --output-dir out/ranks
    python benchmarks/rank_correlation.py report     --output-dir out/ranks

``standalone`` trains architectures that are drawn uniformly within 95 to 100 % of the budget, and
some over a wide range of FLOPs, alike and alone, and tests them; some with several seeds, which
tell noise from differences. ``supernet`` trains a supernet for each of --settings (the table
SETTINGS in rank_lib/supernet.py) on random architectures, for equal FLOPs, and rates the same
architectures on validation images, once with the statistics of each batch and once with BatchNorm
recalibrated. ``report`` prints Kendall's tau between ratings and stand-alone accuracies, beside
that of FLOPs and weights as ratings, and the tau that the noise of the trainings leaves to a
perfect predictor. It writes report.json and report.svg.

Networks that a search in the same space found (--found out/search/search_result.pth) are trained
and rated with the others. They are a set of their own, "found", which no tau counts; the report
says how many of the random networks within budget each of them beats.

Every training and every rating is a piece with a file of its own; an interrupted run goes on where
it stopped, and several processes may share the work of an output folder:

    python benchmarks/rank_correlation.py standalone supernet --data cifar10 --output-dir out & ...

Space, budget and image size come from --config-file; --opts and --train-opts override single keys
of the supernets and of the trainings. Needs scipy (pip install 'fpnas[test]').
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from benchmark_config import config_from
from rank_lib.report import (
    Results,
    against_random,
    correlations,
    gains,
    plot,
    spread,
    tables,
)
from rank_lib.standalone import train_alone
from rank_lib.study import Study
from rank_lib.supernet import SETTINGS, StudiedSupernet
from tabulate import tabulate
from units import claimed, stored, write_json

from fpnas.config import CfgNode
from fpnas.errors import UserError

_DEFAULT_SETTINGS = ["base", "paper-sharing", "share-all", "whole-space", "sandwich"]


def standalone(args: argparse.Namespace) -> None:
    """Train every candidate, then the first ones with further seeds."""
    study = open_study(args)
    drawn = study.candidates(args.budget)
    jobs = [(candidate, 0) for candidate in study.found(args.found) + drawn]
    jobs += [(c, seed) for c in drawn[: args.repeats] for seed in range(1, args.seeds)]
    for candidate, seed in jobs:
        folder = study.folder / "standalone" / f"{candidate.name}-{seed}"
        with claimed(folder) as mine:
            if mine:
                train = partial(train_alone, study, candidate, seed, folder)
                result = stored(folder / "result.json", train)
                say(
                    f"{folder.name}: {result['accuracy']:.2f} %, {result['flops'] / 1e6:.2f} "
                    f"MFLOPs, {result['cpu_seconds']:.0f} s"
                )


def supernet(args: argparse.Namespace) -> None:
    """Train the supernets and let each rate all candidates."""
    study = open_study(args)
    candidates = study.found(args.found) + study.candidates(args.budget)
    for seed in range(args.supernet_seeds):
        for name in args.settings:
            folder = study.folder / "supernet" / f"{name}-{seed}"
            with claimed(folder) as mine:
                if not mine:
                    continue
                rated = StudiedSupernet(study, name, seed, args.rating_images)
                training = stored(folder / "training.json", rated.train)
                say(
                    f"{folder.name}: {training['steps']} steps, {training['tflops']:.2f} TFLOPs, "
                    f"{training['cpu_seconds']:.0f} s"
                )
                rate = rated.rater()
                for candidate in candidates:
                    file = folder / "ratings" / f"{candidate.name}.json"
                    stored(file, partial(rate, candidate))


def report(args: argparse.Namespace) -> None:
    """Print and write what the output folder holds so far."""
    cfg, _ = configs(args)
    results = Results(args.output_dir, args.report_images, cfg.TEST.BATCH_SIZE)
    spreads, records, better = spread(results), correlations(results), gains(results)
    rivals = against_random(results)
    write_json(
        args.output_dir / "report.json",
        {
            "spread": spreads,
            "found": rivals,
            "supernets": results.supernets,
            "correlations": records,
            "gains": better,
        },
    )
    plot(results, records, args.output_dir / "report.svg")
    shown = [{"set": name, **figures} for name, figures in spreads.items()]
    overview = [tabulate(rows, headers="keys", floatfmt=".4g") for rows in (shown, rivals) if rows]
    print(*overview, *tables(records, better), sep="\n\n")


COMMANDS = {"standalone": standalone, "supernet": supernet, "report": report}


def open_study(args: argparse.Namespace) -> Study:
    """The study in --output-dir."""
    if not args.data:
        raise UserError("--data, the folder of the images, is needed for all but 'report'.")
    cfg, train_cfg = configs(args)
    return Study(args.output_dir, cfg, train_cfg, args.low, args.wide, args.wide_low)


def configs(args: argparse.Namespace) -> tuple[CfgNode, CfgNode]:
    """Those of the supernets and of the stand-alone trainings."""
    cfg = config_from(args.config_file, {"DATA.ROOT": args.data}, args.opts)
    train_cfg = config_from(args.train_config_file, opts=args.train_opts)
    return cfg, train_cfg


def say(text: str) -> None:
    print(text, flush=True)


def parser() -> argparse.ArgumentParser:
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commands", nargs="+", choices=COMMANDS, help="are run in this order")
    parser.add_argument("--data", default="", help="DATA.ROOT: an image folder")
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--config-file", default=here / "rank_correlation.yaml")
    parser.add_argument("--train-config-file", default=here / "rank_correlation_train.yaml")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY VALUE")
    parser.add_argument("--train-opts", nargs="+", default=[], metavar="KEY VALUE")
    parser.add_argument("--threads", type=int, default=1, help="of this process")
    which = parser.add_argument_group("architectures")
    which.add_argument("--budget", type=int, default=26, help="architectures within the budget")
    which.add_argument("--low", type=float, default=0.95, help="their least cost, share of it")
    which.add_argument("--wide", type=int, default=12, help="architectures over a range of costs")
    which.add_argument("--wide-low", type=float, default=0.3, help="their least cost, share of it")
    which.add_argument("--repeats", type=int, default=2, help="architectures with several seeds")
    which.add_argument("--seeds", type=int, default=3, help="of these")
    which.add_argument(
        "--found", type=Path, nargs="+", default=[], help="search_result.pth of searches"
    )
    nets = parser.add_argument_group("supernets")
    nets.add_argument("--settings", nargs="+", choices=SETTINGS, default=_DEFAULT_SETTINGS)
    nets.add_argument("--supernet-seeds", type=int, default=1)
    nets.add_argument("--rating-images", type=int, default=5000, help="of validation, at most")
    nets.add_argument(
        "--report-images", type=int, nargs="*", default=[250, 1000], help="beside all of them"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    for command in args.commands:
        COMMANDS[command](args)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"rank_correlation: {error}")
