"""Compare search methods on a benchmark of trained architectures.

    python benchmarks/tabular_search.py --benchmark nas-bench-macro --data FILE \
        --method paper budgeted --iterations 1000 --target-percentile 60 --seeds 10 --json OUT

    python benchmarks/tabular_search.py --benchmark nas-bench-macro --data FILE \
        --method additive budgeted evolution random --ratings 100 250 500 1000 2000 4000 8000 \
        --target-percentile 40 60 80 --seeds 50 --json OUT

The first prints a table and writes ``{method: {samples, mode_cost_ratio, mode_accuracy, accuracy,
rank, regret, regret_se, final_entropy, within_budget}}``: means over seeds (and targets, if several
are given). Accuracies are in percent, regret in accuracy points below the best architecture within
budget; the mode is the most probable architecture, ``accuracy``, ``rank`` (1 = best within budget)
and ``regret`` are those of the architecture returned; entropy is in nats; ``within_budget`` is a
share. What a method does not have (the mode of an evolution) is null. ``samples`` counts evaluated
architectures.

With ``--ratings`` every method rates exactly so many architectures, and what it would return after
each of these numbers is judged: ``{method: {ratings: {the same keys}}}``.

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
from tabular import LikelihoodOfError, TabularBenchmark
from torch import Tensor
from tqdm import tqdm

from fpnas.errors import UserError, check_known
from fpnas.search import (
    AdaptiveSampling,
    ArchitectureSearcher,
    FixedSampling,
    SearchResult,
    search,
)
from fpnas.search.baselines import BaselineResult, random_search, regularized_evolution
from fpnas.search.estimator import Sampling

BENCHMARKS = {
    "nas-bench-macro": "tabular:nas_bench_macro",
    "accel-nasbench": "accel_nasbench:load",
}
FIRST_SAMPLES = 14  # K at the uniform distribution, K0
# Random search and evolution evaluate this share of K0 * iterations: about what adaptive sampling
# draws, so that all methods but paper-fixed spend the same.
BASELINE_SHARE = 0.59
BASELINES = {"random": random_search, "evolution": regularized_evolution}
# Methods that are searches -> their estimator.
_ESTIMATORS = {
    "paper": "paper",
    "paper-fixed": "paper",
    "budgeted": "budgeted",
    "additive": "additive",
}
METHODS = (*_ESTIMATORS, *BASELINES)


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
    if method in BASELINES:
        return _baseline(
            method, run, max(1, round(BASELINE_SHARE * FIRST_SAMPLES * run.iterations))
        )
    benchmark = run.benchmark
    return search(
        benchmark.space,
        _evaluator(run),
        benchmark.cost,
        run.target,
        estimator=_ESTIMATORS[method],
        sampling=_sampling(method, run),
        iterations=run.iterations,
        seed=run.seed,
        distribution=run.distribution,
    )


def run_ratings(
    method: str, run: Run, counts: Sequence[int]
) -> dict[int, SearchResult | BaselineResult]:
    """What the method would return after each of ``counts`` (ascending) rated architectures."""
    if method in BASELINES:
        whole = _baseline(method, run, counts[-1])
        return {count: _after(whole, count, run) for count in counts}
    mixed = run.distribution == "mixed"
    searcher = ArchitectureSearcher(
        run.benchmark.space,
        run.benchmark.cost,
        run.target,
        estimator=_ESTIMATORS[method],
        sampling=_sampling(method, run),
        distribution="factorized" if mixed else run.distribution,
        seed=run.seed,
    )
    evaluate, results, rated = _evaluator(run), {}, 0
    for count in counts:
        while rated < count:
            if mixed and rated >= counts[-1] / 4:
                searcher.convert_to_joint()
            choices = searcher.ask()
            if len(choices) > count - rated:
                searcher.discard()
                choices = searcher.ask(count - rated)
            searcher.tell(choices, evaluate(choices))
            rated += len(choices)
        results[count] = searcher.result()
    return results


def _evaluator(run: Run) -> LikelihoodOfError:
    generator = torch.Generator().manual_seed(run.seed + 1_000_003)  # apart from the search's own
    return run.benchmark.evaluator(generator, run.likelihood_scale, run.noise)


def _sampling(method: str, run: Run) -> Sampling:
    if method == "paper-fixed":
        return FixedSampling(FIRST_SAMPLES)
    return AdaptiveSampling.starting_at(FIRST_SAMPLES, run.benchmark.space.num_architectures)


def _baseline(method: str, run: Run, num_samples: int) -> BaselineResult:
    benchmark = run.benchmark
    options = {"num_samples": num_samples, "seed": run.seed}
    return BASELINES[method](
        benchmark.space, _evaluator(run), benchmark.cost, run.target, **options
    )


def _after(whole: BaselineResult, count: int, run: Run) -> BaselineResult:
    """A baseline that had ended after its first ``count`` ratings."""
    best = whole.evaluated[whole.log_likelihoods[:count].argmax()]
    cost = float(run.benchmark.cost(best[None]))
    evaluated, ratings = whole.evaluated[:count], whole.log_likelihoods[:count]
    return BaselineResult(best, cost, whole.target, evaluated, ratings)


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
    parser.add_argument(
        "--ratings", type=int, nargs="+", default=[], metavar="N", help="in place of --iterations"
    )
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
                [
                    _judged(judge, method, run, sorted(args.ratings))
                    for judge, run in zip(judges, runs, strict=True)
                ]
            )
        at = {
            count: summarise([[one[count] for one in seed] for seed in scores])
            for count in scores[0][0]
        }
        report[method] = at if args.ratings else at[0]
        print_table({f"{method} {count or ''}": summary for count, summary in at.items()})
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    return report


def _judged(
    judge: Judge, method: str, run: Run, counts: Sequence[int]
) -> dict[int, dict[str, float]]:
    """The scores after each of ``counts`` ratings; without any, of the whole search, as 0."""
    results = run_ratings(method, run, counts) if counts else {0: run_method(method, run)}
    return {count: judge(result) for count, result in results.items()}


def print_table(report: dict[str, dict[str, float | None]]) -> None:
    print("method          " + "".join(f"{key:>17}" for key in KEYS))
    for method, summary in report.items():
        cells = ["-" if summary[key] is None else f"{summary[key]:.4g}" for key in KEYS]
        print(f"{method:16}" + "".join(f"{cell:>17}" for cell in cells))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
