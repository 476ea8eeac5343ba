"""Which recipe fine-tunes best: variants of quick/finetune.yaml on a folder of photos.

    python benchmarks/fine_tuning.py PHOTOS --output-dir out/fine_tuning --seeds 3
    python benchmarks/fine_tuning.py PHOTOS --output-dir out/few --seeds 3 --photos 250

PHOTOS holds one folder a class. Each seed holds out 15 % of them for its figures; with --photos N
it trains on N photos, as many of each class, and holds out all others. Nothing is chosen by
anything else, so that a test split stays untouched. An interrupted run goes on where it stopped.

Prints and writes to results.json the mean over the seeds, its standard error, and CPU minutes.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from benchmark_config import config_from
from tabulate import tabulate
from units import claimed, stored, write_json

from fpnas.data.image_folder import image_paths
from fpnas.errors import UserError
from fpnas.model_zoo import get_record, start_from
from fpnas.training import run_training
from fpnas.utils.rng import generator_for

_HELD_OUT = 0.15
_CONFIG = "quick/finetune.yaml"

#: What each recipe changes in quick/finetune.yaml. "from scratch" is what fits networks without
#: pretrained weights: quick/train_folder.yaml.
RECIPES: dict[str, dict[str, Any]] = {
    "finetune": {},
    "lr 0.003": {"SOLVER.LR": 0.003},
    "lr 0.01": {"SOLVER.LR": 0.01},
    "lr 0.04": {"SOLVER.LR": 0.04},
    "body 0.3": {"SOLVER.LR": 0.03, "SOLVER.BODY_LR": 0.33},
    "body 0.1": {"SOLVER.LR": 0.1, "SOLVER.BODY_LR": 0.1},
    "frozen BN": {"MODEL.NORM": "FrozenBN"},
    "own BN": {"MODEL.NORM": "BN"},
    "no average": {"SOLVER.EMA_DECAY": 0.0},
    "no colour": {"DATA.AUGMENT.COLOR": 0.0},
    "crops from 0.08": {"DATA.AUGMENT.SCALE": (0.08, 1.0)},
    "crops from 0.2": {"DATA.AUGMENT.SCALE": (0.2, 1.0)},
    "crops from 0.6": {"DATA.AUGMENT.SCALE": (0.6, 1.0)},
    "no smoothing": {"SOLVER.LABEL_SMOOTHING": 0.0},
    "trivialaugment": {"DATA.AUGMENT.POLICY": "trivialaugment", "DATA.AUGMENT.COLOR": 0.0},
    "from scratch": {},
}


def train(args: argparse.Namespace) -> None:
    """Train with every recipe and every seed."""
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        data = linked(args.photos_root, args.output_dir / "data" / str(seed), seed, args.photos)
        for recipe in args.recipes:
            folder = args.output_dir / recipe.replace(" ", "-") / str(seed)
            with claimed(folder) as mine:
                if mine:
                    result = stored(
                        folder / "fine_tuning.json",
                        lambda r=recipe, s=seed, f=folder, d=data: _train_one(args, r, s, f, d),
                    )
                    print(f"{recipe}, seed {seed}: {result['top1']:.2f} %", flush=True)


def _train_one(
    args: argparse.Namespace, recipe: str, seed: int, folder: Path, data: Path
) -> dict[str, Any]:
    name = "quick/train_folder.yaml" if recipe == "from scratch" else _CONFIG
    cfg = config_from(name, RECIPES[recipe])
    start_from(cfg, get_record(args.model))
    own = {
        "DATA.ROOT": data,
        "OUTPUT_DIR": folder,
        "SEED": seed,
        "TEST.PERIOD": 0,
        "LOG.TENSORBOARD": False,
    }
    cfg.merge_from_list([str(text) for pair in own.items() for text in pair])
    cfg.merge_from_list(args.opts)
    begin = time.process_time(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    result = run_training(cfg, resume=(folder / "last_checkpoint").exists())
    spent = time.process_time() - begin[0]
    spent += resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - begin[1]
    return {"recipe": recipe, "seed": seed, "cpu_seconds": spent, **result}


def linked(root: Path, folder: Path, seed: int, photos: int) -> Path:
    """``folder`` with train/ and val/ that link to the photos of ``root``, chosen by ``seed``.

    Raises UserError if a class of ``root`` has too few photos.
    """
    generator = generator_for(seed, "photos")
    classes = {path.name: image_paths(path) for path in sorted(root.iterdir()) if path.is_dir()}
    fewest = min(map(len, classes.values()), default=0)
    each = round(photos / len(classes)) if photos and classes else 0
    if fewest <= max(each, 1):
        raise UserError(f"{root} has a class of {fewest} photos, too few to hold some out.")
    for name, files in classes.items():
        order = torch.randperm(len(files), generator=generator).tolist()
        training = each or round(len(files) * (1 - _HELD_OUT))
        for split, part in (("train", order[:training]), ("val", order[training:])):
            target = folder / split / name
            target.mkdir(parents=True, exist_ok=True)
            for source in (Path(files[index]) for index in part):
                link = target / source.name
                if not link.is_symlink():
                    link.symlink_to(source.resolve())
    return folder


def report(args: argparse.Namespace) -> None:
    """Print and write what is finished."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(args.output_dir.glob("*/*/fine_tuning.json")):
        one = json.loads(file.read_text())
        found.setdefault(one["recipe"], []).append(one)
    rows = []
    for recipe, results in found.items():
        top1 = [one["top1"] for one in results]
        error = statistics.stdev(top1) / len(top1) ** 0.5 if len(top1) > 1 else None
        minutes = statistics.fmean(one["cpu_seconds"] for one in results) / 60
        rows.append(
            {
                "recipe": recipe,
                "seeds": len(top1),
                "top-1, %": statistics.fmean(top1),
                "standard error": error,
                "CPU min": minutes,
            }
        )
    rows.sort(key=lambda row: -row["top-1, %"])
    write_json(args.output_dir / "results.json", rows)
    print(tabulate(rows, headers="keys", floatfmt=".3g"))


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos_root", type=Path, metavar="PHOTOS")
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--model", default="efficientnet_lite0", help="published network")
    parser.add_argument("--recipes", nargs="+", default=["finetune"], choices=RECIPES)
    parser.add_argument("--photos", type=int, default=0, metavar="N", help="0: all")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY VALUE")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    train(args)
    report(args)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"fine_tuning: {error}")
