"""How much a trained network loses when every expansion is cut to the same share, untrained.

    python benchmarks/channel_order.py PHOTOS --weights out/full/model_final.pth

PHOTOS holds train/ and val/ (or test/), one folder a class. The channels that stay are the first
ones, in three orders: as they are, by the size of weights, and by the first-order change of the
loss on photos of train/. BatchNorm is measured anew on the same photos; the others judge.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from benchmark_config import config_from
from tabulate import tabulate
from torch import Tensor

from fpnas.data import TestLoader, TrainLoader, cache_images, find_splits
from fpnas.data.preprocessing import set_preprocessing
from fpnas.errors import UserError
from fpnas.modeling import magnitudes, pretrained_supernet, recalibrate_bn, taylor_scores
from fpnas.spaces import NetworkSpace
from fpnas.training import load_trained
from fpnas.training.accuracy import evaluate

_BATCHES = 16


def main(argv: Sequence[str] | None = None) -> None:
    """Print the accuracies."""
    args = parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    trained = load_trained(args.weights)
    network, about = trained.model, trained.description
    cfg = config_from("quick/finetune.yaml", {"DATA.ROOT": str(args.photos), "DATA.NUM_WORKERS": 0})
    set_preprocessing(cfg, about.preprocessing)
    train_set, test_set = (cache_images(images, cfg) for images in find_splits(cfg))
    loader = TrainLoader(train_set, cfg, 32, seed=0)
    batches = list(itertools.islice(loader.iterate(), _BATCHES))
    judge = TestLoader(test_set, cfg, 64)
    orders = {
        "as they are": {
            path: torch.ones_like(score) for path, score in magnitudes(network).items()
        },
        "by the size of weights": magnitudes(network),
        "by the change of the loss": taylor_scores(network, batches),
    }
    space = NetworkSpace.around(network.arch).at(about.preprocessing.input_size)
    full = network.arch.flops(space.input_size)
    rows = []
    for name, scores in orders.items():
        supernet = pretrained_supernet(network, space, scores)
        row: list[object] = [name]
        for steps in range(args.steps):
            cut = supernet.extract(thinner(space, steps))
            recalibrate_bn(cut, (images for images, _ in batches))
            row.append(evaluate(cut, judge, torch.device("cpu"))["top1"])
        rows.append(row)
    shares = [space.flops(thinner(space, n)[None]).item() / full for n in range(args.steps)]
    headers = ["channels", *(f"{share:.0%} of the FLOPs" for share in shares)]
    print(tabulate(rows, headers, floatfmt=".1f"))


def thinner(space: NetworkSpace, steps: int) -> Tensor:
    """The whole network with every expansion ``steps`` values smaller, int64 [V]."""
    choices = space.origin_choices
    for column, variable in enumerate(space.variables):
        if variable.name == "expansion":
            choices[column] = max(int(choices[column]) - steps, 0)
    return choices


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, metavar="PHOTOS")
    parser.add_argument("--weights", required=True, help="model_final.pth of a training")
    parser.add_argument("--steps", type=int, default=4, help="how far expansions are cut")
    parser.add_argument("--threads", type=int, default=1)
    return parser


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"channel_order: {error}")
