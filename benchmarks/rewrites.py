"""What the rewrites of the ONNX export gain, each alone and all together.

    python benchmarks/rewrites.py --rounds 30 --json OUT.json

exports one architecture with several activations and attentions, as PyTorch exports it ("naive"),
with the rewrites that an export chooses on this CPU ("auto") and with all rewrites, and times the
graphs in ONNX Runtime on one image, one thread, in interleaved rounds. ``--each`` adds each rewrite
alone, and all but that one: what it gains without the others and with them.

Printed are medians over the rounds of CPU time and of its ratio to the naive graph of the same
round, and the largest deviation of the outputs from PyTorch's. The architecture is the one of 1,000
random architectures of the space, none of whose blocks is skipped, that comes nearest to
``--mflops`` when it has no attention.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from speed_lib.architectures import nearest, variant
from speed_lib.rounds import CPU_ONE_THREAD, Times, interleave, quartiles, ratios
from tabulate import tabulate
from torch import Tensor, nn

from fpnas.archs import Architecture
from fpnas.errors import UserError
from fpnas.export import REWRITES, onnx
from fpnas.export.rewrites import AUTO
from fpnas.export.source import Runner, prepare_source
from fpnas.modeling import SearchedNet
from fpnas.spaces import get_space
from fpnas.utils.machine import cpu_info

# Activation and number of splits of all blocks.
CASES = {
    "relu": ("relu", 0),
    "relu_se": ("relu", 1),
    "swish_se": ("swish", 1),
    "hswish_se": ("hswish", 1),
    "relu_sa2": ("relu", 2),
    "swish_sa2": ("swish", 2),
    "relu_sa4": ("relu", 4),
}
NAIVE = "naive"


class Graph(NamedTuple):
    """An exported network and how far its outputs are from PyTorch's, relative to the largest."""

    run: Runner
    deviation: float


class CaseResult(NamedTuple):
    """Seconds of one call in each round, by name of the set of rewrites, and the deviations."""

    times: Times
    deviations: dict[str, float]

    def ratio(self, name: str) -> float:
        """Median over the rounds of the time of that graph over the naive one's."""
        return median(ratios(self.times, name, NAIVE))


def rewrite_sets(each: bool) -> dict[str, tuple[str, ...]]:
    """Names of the measured graphs, with the rewrites of each."""
    sets = {NAIVE: (), AUTO: (AUTO,), "all": tuple(REWRITES)}
    if not each:
        return sets
    alone = {f"only {name}": (name,) for name in REWRITES}
    without = {
        f"all but {name}": tuple(other for other in REWRITES if other != name) for name in REWRITES
    }
    return {**sets, **alone, **without}


def measure(
    arch: Architecture, sets: dict[str, tuple[str, ...]], rounds: int, calls: int = 5
) -> CaseResult:
    """Time the graphs of ``arch`` that ``sets`` names, ``calls`` images in a round."""
    graphs = dict(_graphs(arch, sets))
    image = np.random.default_rng(0).standard_normal(_image_shape(arch)).astype(np.float32)
    runs = {name: _repeated(graph.run, image, calls) for name, graph in graphs.items()}
    times = interleave(runs, rounds, CPU_ONE_THREAD, warmup=2)
    per_call = {name: [seconds / calls for seconds in values] for name, values in times.items()}
    return CaseResult(per_call, {name: graph.deviation for name, graph in graphs.items()})


def _graphs(arch: Architecture, sets: dict[str, tuple[str, ...]]) -> Iterator[tuple[str, Graph]]:
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        images = torch.randn(4, *_image_shape(arch)[1:])
        network = _with_statistics(SearchedNet(arch), images)
        with torch.inference_mode():
            expected = network(images)
        source = prepare_source(network, images, {}, batch_size=1, dynamic_batch=False)
        for i, (name, rewrites) in enumerate(sets.items()):
            path = Path(folder) / f"{i}.onnx"
            onnx.export(dataclasses.replace(source, rewrites=rewrites), path)
            run = onnx.load(path, threads=1)
            found = torch.cat([torch.from_numpy(run(image[None])) for image in images.numpy()])
            deviation = (found - expected).abs().max() / expected.abs().max()
            yield name, Graph(run, float(deviation))


def _with_statistics(network: nn.Module, images: Tensor) -> nn.Module:
    """``network`` in eval mode, BatchNorms with spread parameters and statistics of ``images``."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias, std=0.5)
            module.momentum = None  # the average over what it has seen
    with torch.no_grad():
        network.train()(images)
    return network.eval()


def _image_shape(arch: Architecture) -> tuple[int, int, int, int]:
    return (1, arch.in_channels, arch.input_size, arch.input_size)


def _repeated(run: Runner, image: np.ndarray, calls: int) -> Callable[[], None]:
    def repeated() -> None:
        for _ in range(calls):
            run(image)

    return repeated


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", default="FBNetV2-F", help="name in SPACE_REGISTRY")
    parser.add_argument("--input-size", type=int, help="px; default: the space's own")
    parser.add_argument("--mflops", type=float, default=180.0)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--each", action="store_true", help="measure every rewrite by itself, too")
    parser.add_argument("--seed", type=int, default=0, help="of the architecture")
    parser.add_argument("--json", type=Path, help="file for the figures, flat keys")
    return parser


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Measure, print a table for each case, and return the figures of the JSON file."""
    args = parser().parse_args(argv)
    space = get_space(args.space).at(input_size=args.input_size)
    [arch] = nearest(space, "relu", 0, args.mflops, seed=args.seed)
    print(f"{cpu_info()}; {space.input_size} px, {arch.flops() / 1e6:.0f} MFLOPs without attention")
    figures: dict[str, float] = {}
    for case in args.cases:
        act, splits = CASES[case]
        result = measure(variant(arch, act, splits), rewrite_sets(args.each), args.rounds)
        _print_case(case, result)
        figures |= quartiles(f"{case}_naive_ms", [1e3 * t for t in result.times[NAIVE]])
        figures |= quartiles(f"{case}_ratio", ratios(result.times, AUTO, NAIVE))
        figures |= {
            f"{case}_ratio_{name.replace(' ', '_')}": result.ratio(name) for name in result.times
        }
        figures[f"{case}_largest_deviation"] = max(result.deviations.values())
        if args.json:
            args.json.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def _print_case(case: str, result: CaseResult) -> None:
    rows = [
        (name, 1e3 * median(times), result.ratio(name), f"{result.deviations[name]:.0e}")
        for name, times in result.times.items()
    ]
    headers = [case, "ms", "of naive", "largest deviation"]
    print("\n" + tabulate(rows, headers=headers, floatfmt=("", ".2f", ".3f", "")), flush=True)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"rewrites: {error}")
