"""Does a search that counts measured latency find faster networks than one that counts FLOPs?

    python benchmarks/latency_search.py --data cifar10 --table blocks.json --output-dir out/latency

Searches twice in the setting of search_efficiency.yaml (or of --config-file): with SEARCH.COST
flops, and with SEARCH.COST latency at a target of --latency-share (0.8) of what the network found
first costs in the table. Both found networks are then timed whole in ONNX Runtime, in turns, and
each is judged in both supernets on the validation half. Prints latency, FLOPs and losses; the
standard error of the difference of the losses is that over the images. Interrupted searches go on
where they stopped. Let nothing else run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import torch
from benchmark_config import config_from
from tabulate import tabulate
from torch import Tensor
from torch.nn import functional as F
from units import write_json

from fpnas.config import CfgNode
from fpnas.latency import LatencyTable
from fpnas.modeling import SuperNet, recalibrate_bn
from fpnas.search import SearchResult
from fpnas.search.run import run_search
from fpnas.search.setup import SearchSetup
from fpnas.utils.checkpoint import load_weights


def search_config(args: argparse.Namespace, cost: str, target: float | None) -> CfgNode:
    """The config of the search that counts ``cost``; ``target`` None keeps the file's own."""
    overrides = {
        "OUTPUT_DIR": args.output_dir / cost,
        "DATA.ROOT": args.data,
        "SEARCH.COST": cost,
        "SEARCH.LATENCY_TABLE": args.table,
        "SEARCH.LATENCY_THREADS": args.threads,
        "LOG.TENSORBOARD": False,
    }
    if target is not None:
        overrides["SEARCH.TARGET"] = target
    return config_from(args.config_file, overrides, args.opts)


def search(cfg: CfgNode) -> SearchResult:
    """The result of a search, from its file if it has finished before."""
    finished = Path(cfg.OUTPUT_DIR) / "search_result.pth"
    if finished.exists():
        return SearchResult.load(finished)
    [result] = run_search(cfg, resume=True)
    return result


@torch.no_grad()
def image_losses(cfg: CfgNode, choices: Tensor) -> Tensor:
    """Cross-entropy of every validation image ``[N]``, with the weights of this search."""
    setup = SearchSetup.from_cfg(cfg)
    supernet = SuperNet(setup.space, setup.num_classes, cfg.SEARCH.SHARING)
    load_weights(supernet, Path(cfg.OUTPUT_DIR) / "model_final.pth")
    network = supernet.extract(choices).eval()
    batches = itertools.islice(setup.train_loader.iterate(), cfg.SEARCH.BN_BATCHES)
    recalibrate_bn(network, (images for images, _ in batches))
    losses = [
        F.cross_entropy(network(images), labels, reduction="none")
        for images, labels in setup.val_images
    ]
    return torch.cat(losses)


def compare(args: argparse.Namespace) -> dict[str, float]:
    """All figures; ``latency_ratio`` is the measured time of the second network over the first."""
    by_flops = search_config(args, "flops", None)
    first = search(by_flops)
    space = SearchSetup.from_cfg(by_flops).space
    table = LatencyTable(args.table, args.threads)
    expected = table.latency(space.architecture(first.choices), space.input_size)
    by_latency = search_config(args, "latency", args.latency_share * expected)
    second = search(by_latency)

    both = {"flops": first.choices, "latency": second.choices}
    archs = [space.architecture(choices) for choices in both.values()]
    times = dict(zip(both, table.timer.networks(archs, space.input_size), strict=True))
    figures = {"latency_ratio": times["latency"] / times["flops"]}
    for name, choices in both.items():
        figures[f"{name}_ms"] = times[name]
        figures[f"{name}_mflops"] = int(space.flops(choices[None])) / 1e6
    difference = torch.zeros(())
    for supernet, cfg in (("flops", by_flops), ("latency", by_latency)):
        losses = {name: image_losses(cfg, choices) for name, choices in both.items()}
        for name, values in losses.items():
            figures[f"{name}_loss_in_{supernet}_supernet"] = float(values.mean())
        difference = difference + (losses["latency"] - losses["flops"]) / 2
    figures["loss_difference"] = float(difference.mean())
    figures["loss_difference_error"] = float(difference.std() / len(difference) ** 0.5)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="DATA.ROOT: an image folder")
    parser.add_argument("--table", type=Path, required=True, help="JSON file of measured blocks")
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--config-file", default=Path(__file__).with_name("search_efficiency.yaml"))
    parser.add_argument("--latency-share", type=float, default=0.8)
    parser.add_argument("--threads", type=int, default=1, help="of a call in ONNX Runtime")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE")
    args = parser.parse_args()

    figures = compare(args)
    write_json(args.output_dir / "results.json", figures)
    print(tabulate(figures.items(), floatfmt=".4g"))


if __name__ == "__main__":
    main()
