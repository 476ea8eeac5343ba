"""Compare search methods on a benchmark of trained architectures.

    python benchmarks/tabular_search.py --benchmark nas-bench-macro --data FILE \
        --method paper budgeted --iterations 1000 --target-percentile 60 --seeds 10 --json OUT

prints a table and writes ``{method: {samples, mode_cost_ratio, mode_accuracy, accuracy, rank,
regret, regret_se, final_entropy, within_budget}}``: means over seeds (and targets, if several are
given). Accuracies are in percent, regret in accuracy points below the best architecture within
budget; the mode is the most probable architecture, ``accuracy``, ``rank`` (1 = best within budget)
and ``regret`` are those of the architecture returned; entropy is in nats; ``within_budget`` is a
share. What a method does not have (the mode of an evolution) is null. ``samples`` counts evaluated
architectures.

Another benchmark: put its adapter (see tabular.py beside this file) into a module of yours and name
it, ``--benchmark my_module:load``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tabular import TabularBenchmark
from torch import Tensor
from tqdm import tqdm

from fpnas.errors import UserError, check_known
from fpnas.search import AdaptiveSampling, FixedSampling, SearchResult, search
from fpnas.search.baselines import BaselineResult, random_search, regularized_evolution

BENCHMARKS = {
    "nas-bench-macro": "tabular:nas_bench_macro",
    "accel-nasbench": "accel_nasbench:load",
}
FIRST_SAMPLES = 14  # K at the uniform distribution, K0
# Random search and evolution evaluate this share of K0 * iterations: about what adaptive sampling
# draws, so that all methods but paper-fixed spend the same.
BASELINE_SHARE = 0.59
METHODS = ("paper", "paper-fixed", "budgeted", "random", "evolution")


@dataclass(frozen=True)
class Run:
    """One search to make."""

    benchmark: TabularBenchmark
    target: float
    iterations: int
    seed: int
    likelihood_scale: float
    noise: float
    distribution: str


def run_method(method: str, run: Run) -> SearchResult | BaselineResult:
    """Search with one method; the result's architecture is within budget."""
    benchmark = run.benchmark
    generator = torch.Generator().manual_seed(run.seed + 1_000_003)  # apart from the search's own
    evaluate = benchmark.evaluator(generator, run.likelihood_scale, run.noise)
    if method in ("random", "evolution"):
        baseline = random_search if method == "random" else regularized_evolution
        return baseline(
            benchmark.space,
            evaluate,
            benchmark.cost,
            run.target,
            num_samples=max(1, round(BASELINE_SHARE * FIRST_SAMPLES * run.iterations)),
            seed=run.seed,
        )
    fixed = method == "paper-fixed"
    return search(
        benchmark.space,
        evaluate,
        benchmark.cost,
        run.target,
        estimator="budgeted" if method == "budgeted" else "paper",
        sampling=FixedSampling(FIRST_SAMPLES)
        if fixed
        else AdaptiveSampling.starting_at(FIRST_SAMPLES, benchmark.space.num_architectures),
        iterations=run.iterations,
        seed=run.seed,
        distribution=run.distribution,
    )


class Judge:
    """Measures results by the true accuracies of the architectures within one target."""

    def __init__(self, benchmark: TabularBenchmark, percentile: float) -> None:
        reference = benchmark.reference()
        costs = benchmark.cost(reference).double()
        self.benchmark = benchmark
        self.target = float(torch.quantile(costs, percentile / 100))
        self.accuracies = benchmark.accuracy(reference[costs <= self.target])

    def __call__(self, result: SearchResult | BaselineResult) -> dict[str, float]:
        accuracy = self._accuracy(result.choices)
        scores = {
            "samples": result.num_samples,
            "accuracy": accuracy,
            "rank": int((self.accuracies > accuracy).sum()) + 1,
            "regret": float(self.accuracies.max()) - accuracy,
            "within_budget": float(result.cost <= self.target),
        }
        if isinstance(result, SearchResult):
            mode = result.candidates[0]
            scores["mode_cost_ratio"] = mode.cost / self.target
            scores["mode_accuracy"] = self._accuracy(mode.choices)
            scores["final_entropy"] = result.entropy
        return scores

    def _accuracy(self, choices: Tensor) -> float:
        return float(self.benchmark.accuracy(choices[None])[0])


KEYS = (
    "samples",
    "mode_cost_ratio",
    "mode_accuracy",
    "accuracy",
    "rank",
    "regret",
    "regret_se",
    "final_entropy",
    "within_budget",
)


def summarise(scores: Sequence[Sequence[dict[str, float]]]) -> dict[str, float | None]:
    """Means over ``scores[seed][target]``, and the standard error of the regret over seeds."""
    flat = [score for seed in scores for score in seed]
    summary: dict[str, float | None] = {
        key: sum(s[key] for s in flat) / len(flat) if key in flat[0] else None for key in KEYS
    }
    regrets = torch.tensor([[s["regret"] for s in seed] for seed in scores]).double().mean(dim=1)
    if len(regrets) > 1:
        summary["regret_se"] = float(regrets.std()) / math.sqrt(len(regrets))
    return summary


def load_benchmark(name: str, path: str) -> TabularBenchmark:
    """One of BENCHMARKS, or the user's ``module:function`` (working folder or PYTHONPATH)."""
    module, colon, function = BENCHMARKS.get(name, name).partition(":")
    if not colon:
        listed = f"{', '.join(BENCHMARKS)}, or module:function"
        check_known(name, BENCHMARKS, f"Unknown benchmark '{name}'", UserError, listed=listed)
    sys.path.append(os.getcwd())
    try:
        load = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UserError(f"--benchmark {name} cannot be imported: {error}") from None
    finally:
        sys.path.remove(os.getcwd())
    benchmark = load(path)
    if not isinstance(benchmark, TabularBenchmark):
        raise UserError(
            f"--benchmark {name} gave a {type(benchmark).__name__}, no TabularBenchmark."
        )
    return benchmark


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--benchmark", required=True, help=f"{', '.join(BENCHMARKS)} or module:function"
    )
    parser.add_argument("--data", required=True, help="file or folder of the benchmark")
    parser.add_argument("--method", required=True, nargs="+", choices=METHODS)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--target-percentile", type=float, nargs="+", default=[60.0])
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--likelihood-scale", type=float, default=96.0)
    parser.add_argument("--noise", type=float, default=0.01, help="standard deviation of the error")
    parser.add_argument("--distribution", choices=("factorized", "joint", "mixed"), default="joint")
    parser.add_argument("--json", type=Path, help="file to write")
    return parser


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, float | None]]:
    args = parser().parse_args(argv)
    torch.set_num_threads(1)  # the tensors are tiny
    # A mode over the target is counted below; a line for each would drown the table.
    logging.getLogger("fpnas.search").setLevel(logging.ERROR)
    benchmark = load_benchmark(args.benchmark, args.data)
    print(benchmark.describe())
    judges = [Judge(benchmark, percentile) for percentile in args.target_percentile]
    report = {}
    for method in args.method:
        scores = []
        seeds = range(args.first_seed, args.first_seed + args.seeds)
        for seed in tqdm(seeds, desc=method, unit="seed", disable=None):
            runs = [
                Run(
                    benchmark,
                    judge.target,
                    args.iterations,
                    seed,
                    args.likelihood_scale,
                    args.noise,
                    args.distribution,
                )
                for judge in judges
            ]
            scores.append(
                [judge(run_method(method, run)) for judge, run in zip(judges, runs, strict=True)]
            )
        report[method] = summarise(scores)
    print_table(report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    return report


def print_table(report: dict[str, dict[str, float | None]]) -> None:
    print("method      " + "".join(f"{key:>17}" for key in KEYS))
    for method, summary in report.items():
        cells = ["-" if summary[key] is None else f"{summary[key]:.4g}" for key in KEYS]
        print(f"{method:12}" + "".join(f"{cell:>17}" for cell in cells))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
