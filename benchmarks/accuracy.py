"""Accuracy of networks that are trained alike: found ones, references, random ones.

    python benchmarks/accuracy.py train  --config-file zoo/CIFAR10.yaml --data cifar10 \\
        --output-dir out/accuracy --networks out/search/architecture.yaml mobilenetv2:6e6 resnet20
    python benchmarks/accuracy.py report --output-dir out/accuracy
    python benchmarks/accuracy.py record --output-dir out/accuracy --config-file zoo/CIFAR10.yaml \\
        --dataset "CIFAR-10 as JPEG files"

A network is a name in ARCH_REGISTRY, an architecture's YAML file, ``mobilenetv2:FLOPS`` or
``mobilenetv3_small:FLOPS`` (as wide as these multiply-adds allow), ``resnet20``, or
``random:SPACE:FLOPS:SEED`` (uniform among the architectures of a search space that use 95 to 100 %
of these multiply-adds). Each is trained once for each of --seeds, in a folder of its own: an
interrupted run goes on where it stopped, and several processes may share the work.

``report`` prints the mean and the spread over the seeds and writes accuracy.json and accuracy.svg.
``record`` adds what is finished to the comparison that ``python tools/zoo/tables.py --write`` puts
into MODEL_ZOO.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmark_config import config_from
from random_architectures import uniform_within
from references import resnet20, scaled
from tabulate import tabulate
from units import claimed, stored, write_json

from fpnas.archs import Architecture, get_arch
from fpnas.config import CfgNode
from fpnas.data import build_dataset
from fpnas.errors import UserError
from fpnas.spaces import get_space
from fpnas.training import run_training
from fpnas.utils.rng import generator_for

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools" / "zoo"))
from fpnas_zoo.comparison import (
    COMPARISONS,
    Comparison,
    Trained,
    draw_networks,
    networks_of,
    record_trainings,
)

_LEAST_SHARE = 0.95  # of the budget, that a random architecture uses


def network(text: str, input_size: int, num_classes: int) -> Architecture:
    """The architecture that ``text`` stands for (see above). Raises a UserError on any other."""
    kind, *rest = text.split(":")
    try:
        if text == "resnet20":
            return resnet20(input_size, num_classes)
        if kind in ("mobilenetv2", "mobilenetv3_small") and len(rest) == 1:
            return scaled(kind, float(rest[0]), input_size, num_classes)
        if kind == "random" and len(rest) == 3:
            return _random(rest[0], float(rest[1]), int(rest[2]), input_size, num_classes)
    except ValueError:
        raise UserError(f"'{text}' has a part that should be a number.") from None
    return get_arch(text)


def _random(name: str, flops: float, seed: int, input_size: int, num_classes: int) -> Architecture:
    space = get_space(name).at(input_size, num_classes)
    generator = generator_for(seed, "random architecture")
    fitting = uniform_within(space, space.flops, _LEAST_SHARE * flops, flops, generator)
    return replace(space.architecture(next(fitting)), name=f"random-{flops / 1e6:g}m-{seed}")


def train(args: argparse.Namespace) -> None:
    """Train every network with every seed."""
    cfg = config_from(args.config_file, {"DATA.ROOT": args.data}, args.opts)
    num_classes = len(build_dataset(cfg, "test").classes)
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for text in args.networks:
            arch = network(text, cfg.DATA.INPUT_SIZE, num_classes)
            folder = args.output_dir / arch.name / str(seed)
            with claimed(folder) as mine:
                if mine:
                    run = partial(_train_one, cfg, arch, seed, folder)
                    result = stored(folder / "accuracy.json", run)
                    print(f"{folder}: {result['top1']:.2f} %", flush=True)


def _train_one(cfg: CfgNode, arch: Architecture, seed: int, folder: Path) -> dict[str, Any]:
    """The result of the training, with "network", "seed", "input_size", "epochs", "cpu_seconds"."""
    file = folder / "network.yaml"
    arch.save(file)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.merge_from_list(["MODEL.ARCH", str(file), "OUTPUT_DIR", str(folder), "SEED", str(seed)])
    resumed = (folder / "last_checkpoint").exists()
    begin = time.process_time()
    result = run_training(cfg, resume=True)
    cpu_seconds = None if resumed else time.process_time() - begin  # unknown for earlier sittings
    return {
        "network": arch.name,
        "seed": seed,
        "input_size": cfg.DATA.INPUT_SIZE,
        "epochs": cfg.SOLVER.EPOCHS,
        "cpu_seconds": cpu_seconds,
        **result,
    }


def finished(folder: Path) -> list[dict[str, Any]]:
    """The results in ``folder``. Raises UserError if there are none."""
    files = sorted(folder.glob("*/*/accuracy.json"))
    if not files:
        raise UserError(f"{folder} holds no finished training.")
    return [json.loads(file.read_text()) for file in files]


def report(args: argparse.Namespace) -> None:
    """Print and write what is finished."""
    results = finished(args.output_dir)
    networks = networks_of(_trained(result) for result in results)
    first = {one["network"]: one for one in reversed(results)}
    rows = [
        {
            "network": row.name,
            "MFLOPs": row.flops / 1e6,
            "params, M": row.params / 1e6,
            "epochs": first[row.name]["epochs"],
            "trainings": row.trainings,
            "top-1, %": row.top1,
            "SD": row.spread,
            "CPU min": _minutes(first[row.name]["cpu_seconds"]),
        }
        for row in networks
    ]
    write_json(args.output_dir / "accuracy.json", rows)
    (args.output_dir / "accuracy.svg").write_text(draw_networks(networks), encoding="utf-8")
    print(tabulate(rows, headers="keys", floatfmt=".4g"))


def _minutes(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 60


def record(args: argparse.Namespace) -> None:
    """Add what is finished to the comparison of the zoo."""
    if not args.dataset:
        raise UserError("--dataset says in words what the images are; 'record' needs it.")
    alike: dict[tuple[int, int], list[Trained]] = {}
    for result in finished(args.output_dir):
        size, epochs = result["input_size"], result["epochs"]
        folder = args.output_dir / result["network"] / str(result["seed"])
        _check_recipe(folder / "config.yaml", args.config_file, size, epochs)
        one = replace(_trained(result), top1=round(result["top1"], 2))
        alike.setdefault((size, epochs), []).append(one)
    for (size, epochs), trained in alike.items():
        new = Comparison(args.config_file, args.dataset, size, epochs, tuple(trained))
        record_trainings(args.comparison, new)
    print(f"Wrote {args.comparison}")


def _trained(result: dict[str, Any]) -> Trained:
    return Trained(**{field.name: result[field.name] for field in fields(Trained)})


def _check_recipe(file: Path, recipe: str, size: int, epochs: int) -> None:
    """Raise UserError if the training differs from its recipe in more than size and epochs."""
    ran = config_from(file)
    said = {
        "DATA.INPUT_SIZE": size,
        "SOLVER.EPOCHS": epochs,
        "DATA.ROOT": ran.DATA.ROOT,
        "MODEL.ARCH": ran.MODEL.ARCH,
    }
    expected = config_from(recipe, said)
    for part in ("MODEL", "DATA", "SOLVER"):
        if ran[part] != expected[part]:
            raise UserError(f"{file} differs from the recipe {recipe} in {part}.")


COMMANDS = {"train": train, "report": report, "record": record}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--config-file", default="zoo/CIFAR10.yaml", help="the recipe")
    parser.add_argument("--data", default="", help="DATA.ROOT")
    parser.add_argument("--networks", nargs="+", default=[], metavar="NETWORK")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of a network")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dataset", default="", help="the images, in words")
    parser.add_argument("--comparison", type=Path, default=COMPARISONS, help="file of 'record'")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY VALUE")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    COMMANDS[args.command](args)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"accuracy: {error}")
