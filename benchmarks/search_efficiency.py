"""What does a supernet search cost, and what does it find? The paper's Figures 3 and 4, small.

    python benchmarks/search_efficiency.py --data cifar10 --output-dir out/efficiency --seeds 3

Searches the same space with the same number of steps by

- ``fixed``: PARSEC, K samples in every step, joint distribution, equation 7;
- ``adaptive``: K proportional to the entropy, from the same K on;
- ``mixed``: adaptive, with a factorised distribution that turns joint;
- ``budgeted``: mixed, with our estimator;
- ``gumbel``: FBNetV2's differentiable search; a sample is a mixture of all choices, which makes it
  many times slower, so that it runs on demand only;

then trains every found network alike. The setting (20 px, 2 MFLOPs, 1,170 steps) stands beside this
file in search_efficiency.yaml. Prints a table of means over the seeds with standard
deviations, and writes it to results.json and two plots. Every run has its own folder in
--output-dir, and an interrupted benchmark goes on where it stopped.

``minutes`` is the wall time of the steps, ``cpu_minutes`` the processor time of the whole search,
which other programs on the machine disturb less (of the last sitting, if it was interrupted).
``gain`` is the supernet's loss of the found architecture below the mean of random architectures
within budget, in standard deviations of theirs.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from benchmark_config import config_from
from tabulate import tabulate
from torch.utils.flop_counter import FlopCounterMode
from units import stored, write_json

from fpnas.config import CfgNode, get_cfg
from fpnas.data import ImageSet, TestLoader
from fpnas.modeling import SuperNet
from fpnas.modeling.masked_supernet import MaskedSuperNet, uniform_weights
from fpnas.search.methods import SEARCH_METHODS
from fpnas.search.run import run_search
from fpnas.search.setup import SearchSetup
from fpnas.spaces import get_space
from fpnas.training import run_training
from fpnas.utils.checkpoint import load_weights

METHODS: dict[str, dict[str, str]] = {
    "fixed": {"SAMPLING": "fixed", "DISTRIBUTION": "joint", "ESTIMATOR": "paper"},
    "adaptive": {"SAMPLING": "adaptive", "DISTRIBUTION": "joint", "ESTIMATOR": "paper"},
    "mixed": {"SAMPLING": "adaptive", "DISTRIBUTION": "mixed", "ESTIMATOR": "paper"},
    "budgeted": {"SAMPLING": "adaptive", "DISTRIBUTION": "mixed", "ESTIMATOR": "budgeted"},
    "gumbel": {"METHOD": "differentiable"},
}

# A backward pass costs about two forward passes.
_FORWARD_BACKWARD = 3


def search_config(args: argparse.Namespace, method: str, seed: int) -> CfgNode:
    """The config of one search."""
    space = config_from(args.config_file, opts=args.opts).SEARCH.SPACE
    overrides: dict[str, Any] = {
        "OUTPUT_DIR": args.output_dir / f"{method}-{seed}" / "search",
        "SEED": seed,
        "DATA.ROOT": args.data,
        "SEARCH.NUM_SAMPLES": args.samples,
        "SEARCH.LAMBDA": args.samples / math.log(get_space(space).num_architectures),
        "LOG.TENSORBOARD": False,
        **{f"SEARCH.{key}": value for key, value in METHODS[method].items()},
    }
    cfg = config_from(args.config_file, overrides, args.opts)
    for key in SEARCH_METHODS[cfg.SEARCH.METHOD].unused:  # what is set for the other methods
        cfg.SEARCH[key] = get_cfg().SEARCH[key]
    return cfg


def run_one(args: argparse.Namespace, method: str, seed: int) -> dict[str, Any]:
    """Figures of one search."""
    folder = args.output_dir / f"{method}-{seed}"
    return stored(folder / "search.json", lambda: search_figures(args, method, seed))


def search_figures(args: argparse.Namespace, method: str, seed: int) -> dict[str, Any]:
    """Run the search to its end, and judge what it found."""
    cfg = search_config(args, method, seed)
    start = time.process_time()
    [result] = run_search(cfg, resume=True)
    cpu_seconds = time.process_time() - start
    lines = (Path(cfg.OUTPUT_DIR) / "metrics.json").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    return {
        "samples": sum(step["num_samples"] for step in steps),
        "minutes": sum(step["time"] for step in steps) / 60,
        "cpu_minutes": cpu_seconds / 60,
        "flops_spent": _flops_spent(steps, cfg),
        "cost": result.cost,
        "within_budget": result.cost <= cfg.SEARCH.TARGET,
        "final_entropy": steps[-1]["entropy"],
        "entropy": [step["entropy"] for step in steps],
        **_supernet_figures(args, cfg, result.choices),
    }


def _flops_spent(steps: list[dict[str, float]], cfg: CfgNode) -> float:
    """Multiply-adds of a search: training batches forth and back, validation batches forth."""
    is_mixture = cfg.SEARCH.METHOD == "differentiable"
    mixture = _mixture_flops(cfg) if is_mixture else 0
    spent = 0.0
    for step in steps:
        images = _FORWARD_BACKWARD * cfg.SOLVER.BATCH_SIZE
        if "val_loss" in step:
            # Alpha's gradient goes back through all activations, but to no weight.
            images += (2 if is_mixture else 1) * cfg.SEARCH.VAL_BATCH_SIZE
        network = mixture if is_mixture else step["num_samples"] * step["sampled_cost"]
        spent += network * images
    return spent


def _mixture_flops(cfg: CfgNode) -> float:
    """Multiply-adds of one image in which all choices are computed."""
    setup = SearchSetup.from_cfg(cfg)
    supernet = MaskedSuperNet(setup.space, setup.num_classes, cfg.SEARCH.SHARING).eval()
    image = torch.zeros(1, 3, cfg.DATA.INPUT_SIZE, cfg.DATA.INPUT_SIZE)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        supernet.mix(image, uniform_weights(setup.space))
    return counter.get_total_flops() / 2  # it counts multiplications and additions


def _supernet_figures(
    args: argparse.Namespace, cfg: CfgNode, choices: torch.Tensor
) -> dict[str, float]:
    """The supernet's loss of the found architecture, against random ones within budget."""
    setup = SearchSetup.from_cfg(cfg)
    supernet = SuperNet(setup.space, setup.num_classes, cfg.SEARCH.SHARING)
    load_weights(supernet, Path(cfg.OUTPUT_DIR) / "model_final.pth")
    candidates = setup.space.sample(20000, torch.Generator().manual_seed(cfg.SEED))
    costs = getattr(setup.space, cfg.SEARCH.COST)(candidates)
    rivals = candidates[costs <= cfg.SEARCH.TARGET][: args.rivals]
    images = judge_images(setup.val_images.image_set, args.judge_images)
    judged = replace(setup, val_images=TestLoader(images, cfg, cfg.TEST.BATCH_SIZE))
    losses = [judged.score(supernet, rival)["mode_loss"] for rival in rivals]
    found = judged.score(supernet, choices)["mode_loss"]
    mean, spread = statistics.mean(losses), statistics.stdev(losses)
    return {"supernet_loss": found, "random_loss": mean, "gain": (mean - found) / spread}


def judge_images(images: ImageSet, count: int) -> ImageSet:
    """``count`` of the images at random: those of a folder are sorted by class."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images.subset(order[:count])


def train_one(args: argparse.Namespace, method: str, seed: int) -> float:
    """Test accuracy, percent, of the found network trained on its own."""
    folder = args.output_dir / f"{method}-{seed}"
    overrides = {
        "SEED": seed,
        "OUTPUT_DIR": folder / "train",
        "MODEL.ARCH": folder / "search" / "architecture.yaml",
        "SOLVER.EPOCHS": args.train_epochs,
        "LOG.TENSORBOARD": False,
    }
    cfg = config_from(args.train_config_file, overrides)
    cfg.DATA = search_config(args, method, seed).DATA.clone()
    trained = stored(
        folder / "train.json", lambda: {"accuracy": run_training(cfg, resume=True)["top1"]}
    )
    return trained["accuracy"]


def summarise(runs: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, list[float]]]:
    """Mean and standard deviation over the seeds of every figure of every method."""
    summary = {}
    for method, figures in runs.items():
        names = [name for name, value in figures[0].items() if not isinstance(value, list)]
        columns = {name: [float(run[name]) for run in figures] for name in names}
        summary[method] = {
            name: [statistics.mean(c), statistics.stdev(c) if len(c) > 1 else 0.0]
            for name, c in columns.items()
        }
    return summary


def plot(runs: dict[str, list[dict[str, Any]]], output_dir: Path) -> None:
    """Entropy over the steps (Figures 3b and 4a) and samples against accuracy (Figure 3a)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    judged = "accuracy" if "accuracy" in next(iter(runs.values()))[0] else "supernet_loss"
    for method, figures in runs.items():
        curves = torch.tensor([run["entropy"] for run in figures])
        left.plot(curves.mean(0), label=method)
        samples = [run["samples"] for run in figures]
        right.scatter(samples, [run[judged] for run in figures], label=method)
    left.set(xlabel="step", ylabel="entropy, nats")
    right.set(xlabel="samples drawn", ylabel=f"{judged.replace('_', ' ')} of the found network")
    left.legend()
    figure.savefig(output_dir / "search_efficiency.svg")
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="DATA.ROOT: an image folder")
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--config-file", default=Path(__file__).with_suffix(".yaml"))
    parser.add_argument("--train-config-file", default="quick/train_folder.yaml")
    parser.add_argument("--train-epochs", type=int, default=10, help="0: searches only")
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=[m for m in METHODS if m != "gumbel"]
    )
    parser.add_argument("--samples", type=int, default=14, help="K of fixed, first K of the others")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument(
        "--rivals", type=int, default=20, help="random architectures to compare with"
    )
    parser.add_argument(
        "--judge-images", type=int, default=5000, help="validation images of supernet_loss"
    )
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE")
    args = parser.parse_args()

    seeds = range(args.first_seed, args.first_seed + args.seeds)
    # Seed by seed, so that all methods meet the same load of the machine.
    jobs = [(method, seed) for seed in seeds for method in args.methods]
    figures = {job: run_one(args, *job) for job in jobs}
    if args.train_epochs:
        for job in jobs:
            figures[job]["accuracy"] = train_one(args, *job)
    runs = {method: [figures[method, seed] for seed in seeds] for method in args.methods}
    summary = summarise(runs)
    write_json(args.output_dir / "results.json", summary)
    plot(runs, args.output_dir)
    names = list(next(iter(summary.values())))
    rows = [
        [method, *(f"{figures[n][0]:.4g} ± {figures[n][1]:.2g}" for n in names)]
        for method, figures in summary.items()
    ]
    print(tabulate(rows, headers=["method", *names]))


if __name__ == "__main__":
    main()
