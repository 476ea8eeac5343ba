"""What the supernet, the search, the training and the exported networks cost in time and memory.

    python benchmarks/speed.py supernet    --json speed.json
    python benchmarks/speed.py search-step --json speed.json
    python benchmarks/speed.py train       --json speed.json
    python benchmarks/speed.py inference   --json speed.json --plot speed.svg
    python benchmarks/speed.py cost        --json speed.json

``supernet`` compares a training step of one sampled architecture with the same step of the network
alone, and with supernets that mask (as in FBNetV2) or mix all choices (as in DNAS). ``search-step``
compares a step of the search with its bare forward and backward passes. ``train`` and
``inference`` compare networks with timm's. ``cost`` times the analytic FLOPs.

Alternatives take turns in every round, and ratios are those within a round: medians and quartiles.
Times are CPU times of one thread; with ``wall2`` in the key, wall times of two threads. The file of
``--json`` has flat keys and keeps those of other sub-commands; ``--plot`` draws all that it holds.
Needs timm (pip install 'fpnas[test]').
"""

from __future__ import annotations

import os

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # read when torch is imported: no profiler messages

import argparse
import importlib
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from speed_lib.rounds import CPU_ONE_THREAD, WALL_TWO_THREADS
from tabulate import tabulate

from fpnas.errors import UserError
from fpnas.utils.machine import cpu_info

Figures = dict[str, float]


def supernet(args: argparse.Namespace) -> Figures:
    from speed_lib.supernet import Setting, measure

    return measure(
        Setting(
            spaces=tuple(args.space),
            architectures=args.architectures,
            rounds=args.rounds,
            batch_size=args.batch_size,
            input_size=args.input_size,
            alternative_rounds=args.alternative_rounds,
            all_choices_batch_size=args.all_choices_batch_size,
            clocks=_clocks(args),
            seed=args.seed,
        )
    )


def search_step(args: argparse.Namespace) -> Figures:
    from speed_lib.search_step import Setting, measure

    return measure(
        Setting(
            space=args.space,
            samples=tuple(args.samples),
            rounds=args.rounds,
            batch_size=args.batch_size,
            input_size=args.input_size,
            seed=args.seed,
        )
    )


def train(args: argparse.Namespace) -> Figures:
    from speed_lib.training import Setting, measure

    return measure(
        Setting(
            arch=args.arch,
            rounds=args.rounds,
            batch_size=args.batch_size,
            input_size=args.input_size,
            clocks=_clocks(args),
        )
    )


def inference(args: argparse.Namespace) -> Figures:
    import rewrites
    from speed_lib.inference import Setting, measure

    figures = measure(
        Setting(
            space=args.space,
            architectures=args.architectures,
            relu_mflops=args.relu_mflops,
            swish_se_mflops=args.swish_se_mflops,
            peers=tuple(args.peers),
            input_size=args.input_size,
            rounds=args.rounds,
            calls=args.calls,
            threads=args.threads,
            seed=args.seed,
        )
    )
    if args.rewrites:
        figures |= {
            f"rewrites_{key}": value
            for key, value in rewrites.main(["--rounds", str(args.rounds)]).items()
        }
    return figures


def cost(args: argparse.Namespace) -> Figures:
    from speed_lib.cost import measure

    return measure(args.space, args.architectures, args.rounds)


def _clocks(args: argparse.Namespace) -> tuple:
    return (CPU_ONE_THREAD,) if args.cpu_time_only else (CPU_ONE_THREAD, WALL_TWO_THREADS)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)

    command = _add(commands, supernet, rounds=15)
    command.add_argument("--space", nargs="+", default=["FBNetV2-F", "FBNetV2-F++"])
    command.add_argument("--architectures", type=int, default=5, help="random ones a space")
    command.add_argument("--alternative-rounds", type=int, default=5, help="of masked / sliced")
    command.add_argument("--all-choices-batch-size", type=int, default=4)
    _add_training_options(command)
    command.add_argument("--cpu-time-only", action="store_true", help="no wall time of two threads")
    command.add_argument("--seed", type=int, default=0)

    command = _add(commands, search_step, rounds=15)
    command.add_argument("--space", default="FBNetV2-F")
    command.add_argument("--samples", type=int, nargs="+", default=[1, 4, 14], help="K of a step")
    _add_training_options(command)
    command.add_argument("--seed", type=int, default=0)

    command = _add(commands, train, rounds=15)
    command.add_argument("--arch", default="mnasnet_100", help="its activation and gates vary")
    _add_training_options(command)
    command.add_argument("--cpu-time-only", action="store_true", help="no wall time of two threads")

    command = _add(commands, inference, rounds=15)
    command.add_argument("--space", default="FP-NAS-L0", help="of our architectures")
    command.add_argument("--architectures", type=int, default=5, help="of each kind")
    command.add_argument("--relu-mflops", type=float, default=290.0)
    command.add_argument("--swish-se-mflops", type=float, default=390.0)
    peers = ["mnasnet_100", "mobilenetv3_large_100", "efficientnet_b0", "efficientnet_lite0"]
    command.add_argument("--peers", nargs="*", default=peers, help="names of timm")
    command.add_argument("--input-size", type=int, default=224)
    command.add_argument("--calls", type=int, default=10, help="a round")
    command.add_argument("--threads", type=int, default=1)
    command.add_argument("--rewrites", action="store_true", help="run benchmarks/rewrites.py, too")
    command.add_argument("--seed", type=int, default=0)

    command = _add(commands, cost, rounds=5)
    command.add_argument("--space", default="FP-NAS-L2")
    command.add_argument("--architectures", type=int, default=10_000)
    return parser


def _add(commands, measure: Callable, rounds: int) -> argparse.ArgumentParser:
    """The sub-command named after its function, with the options that all have."""
    command = commands.add_parser(measure.__name__.replace("_", "-"))
    command.set_defaults(measure=measure)
    command.add_argument("--rounds", type=int, default=rounds)
    command.add_argument("--json", type=Path, help="file to write or to add to")
    command.add_argument("--plot", type=Path, help="SVG file to draw")
    return command


def _add_training_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--batch-size", type=int, default=32)
    command.add_argument("--input-size", type=int, default=128, help="px")


def main(argv: Sequence[str] | None = None) -> Figures:
    args = parser().parse_args(argv)
    _require_timm(args)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    print(cpu_info())
    figures = args.measure(args)
    print(tabulate(sorted(figures.items()), floatfmt=".4g"))
    if args.json and args.json.exists():
        figures = json.loads(args.json.read_text()) | figures
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    if args.plot:
        from speed_lib.plot import draw

        draw(figures, args.plot)
    return figures


def _require_timm(args: argparse.Namespace) -> None:
    if args.command in ("train", "inference"):
        try:
            importlib.import_module("timm")
        except ImportError:
            raise UserError(f"'{args.command}' compares with timm: pip install timm.") from None


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"speed: {error}")
