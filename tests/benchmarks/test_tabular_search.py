"""The tabular benchmark on small made-up data in the published formats."""

from __future__ import annotations

import json
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from fpnas.errors import DataError, UserError
from fpnas.spaces.space import SearchSpace

FOLDER = Path(__file__).parents[2] / "benchmarks"
KEYS = {
    "samples",
    "mode_cost_ratio",
    "mode_accuracy",
    "accuracy",
    "rank",
    "regret",
    "regret_se",
    "final_entropy",
    "within_budget",
}


@pytest.fixture
def tabular_search(monkeypatch):
    """The script, imported as it is when it runs: with its own folder on the path."""
    monkeypatch.syspath_prepend(FOLDER)
    import tabular_search

    yield tabular_search
    for name in ("tabular_search", "tabular", "accel_nasbench", "my_widths"):
        sys.modules.pop(name, None)


@pytest.fixture
def tabular(tabular_search):
    """The benchmarks of the script."""
    return sys.modules["tabular"]


@pytest.fixture(scope="module")
def macro_file(tmp_path_factory):
    """6,561 networks whose accuracy and cost grow with every layer, at different rates."""
    worth = np.array([3.0, 2.5, 2.0, 1.5, 1.2, 1.0, 0.8, 0.5])
    entries = {}
    for code in product((0, 1, 2), repeat=8):
        accuracy = 75 + float(worth @ np.sqrt(code))
        name = "".join(map(str, code))
        entries[name] = {
            "test_acc": [accuracy - 0.2, accuracy, accuracy + 0.2],
            "mean_acc": accuracy,
            "flops": 10_000_000 + 4_000_000 * sum(code),
        }
    path = tmp_path_factory.mktemp("macro") / "macro.json"
    path.write_text(json.dumps(entries))
    return path


def test_macro_table(tabular, macro_file):
    table = tabular.nas_bench_macro(str(macro_file))
    choices = torch.tensor([[2, 1, 1, 0, 0, 0, 2, 2], [0] * 8])
    assert table.cost(choices).tolist() == [42_000_000, 10_000_000]
    assert table.accuracy(choices)[1] == pytest.approx(75, abs=1e-4)
    repeated = torch.zeros(300, 8, dtype=torch.int64)
    measured = table.measure(repeated, torch.Generator().manual_seed(0))
    assert measured.unique().tolist() == pytest.approx([74.8, 75, 75.2], abs=1e-4)


def test_evaluator_gives_log_likelihoods_of_the_error(tabular, macro_file):
    table = tabular.nas_bench_macro(str(macro_file))
    choices = torch.zeros(20_000, 8, dtype=torch.int64)
    evaluate = table.evaluator(torch.Generator().manual_seed(0), likelihood_scale=96, noise=0.01)
    values = evaluate(choices)
    assert float(values.mean()) == pytest.approx(-96 * 0.25, abs=0.05)
    spread = 96 * (0.01**2 + 0.002**2 * 2 / 3) ** 0.5
    assert float(values.std()) == pytest.approx(spread, rel=0.03)


def test_all_methods_report_the_promised_figures(tabular_search, macro_file, tmp_path):
    out = tmp_path / "out.json"
    methods = list(tabular_search.METHODS)
    tabular_search.main(
        ["--benchmark", "nas-bench-macro", "--data", str(macro_file), "--method", *methods]
        + ["--iterations", "60", "--target-percentile", "60", "--seeds", "2", "--json", str(out)]
    )
    report = json.loads(out.read_text())
    assert list(report) == methods
    for method, summary in report.items():
        assert set(summary) == KEYS
        assert summary["within_budget"] == 1
        assert summary["regret"] >= 0 and summary["regret_se"] >= 0 and summary["rank"] >= 1
        learned = method not in ("random", "evolution")
        for key in ("mode_cost_ratio", "mode_accuracy", "final_entropy"):
            assert (summary[key] is not None) == learned
    assert report["paper-fixed"]["samples"] == 14 * 60
    assert report["random"]["samples"] == report["evolution"]["samples"] == round(0.59 * 14 * 60)
    assert report["paper"]["samples"] < 14 * 60


def test_judge_counts_better_architectures_within_budget(tabular_search, tabular, macro_file):
    table = tabular.nas_bench_macro(str(macro_file))
    judge = tabular_search.Judge(table, percentile=50)
    affordable = table.reference()[table.cost(table.reference()) <= judge.target]
    order = table.accuracy(affordable).argsort(descending=True)
    result = tabular_search.BaselineResult(
        choices=affordable[order[4]],
        cost=0.0,
        target=judge.target,
        evaluated=affordable[:3],
        log_likelihoods=torch.zeros(3),
    )
    scores = judge(result)
    assert scores["rank"] == 5
    accuracies = table.accuracy(affordable[order])
    assert scores["regret"] == pytest.approx(float(accuracies[0] - accuracies[4]))


ADAPTER = """
import torch
from itertools import product
from tabular import Table
from fpnas.spaces.space import SearchSpace

def load(path):
    widths = [int(line) for line in open(path)]
    space = SearchSpace.from_variables("widths", [[widths]] * 4)
    choices = torch.tensor(list(product(range(len(widths)), repeat=4)))
    chosen = torch.tensor(widths)[choices].double()
    accuracies = 80 + chosen.log().sum(dim=1, keepdim=True)
    return Table(space, choices, accuracies, costs=chosen.sum(dim=1))
"""


def test_a_benchmark_from_outside_the_package(tabular_search, tmp_path, monkeypatch):
    (tmp_path / "my_widths.py").write_text(ADAPTER)
    (tmp_path / "widths.txt").write_text("8\n16\n24\n32\n")
    monkeypatch.chdir(tmp_path)
    arguments = ["--data", "widths.txt", "--method", "budgeted", "--seeds", "1"]
    report = tabular_search.main(
        ["--benchmark", "my_widths:load", "--iterations", "40", *arguments]
    )
    assert report["budgeted"]["within_budget"] == 1
    assert report["budgeted"]["regret_se"] is None  # one seed has no standard error
    with pytest.raises(UserError, match="cannot be imported"):
        tabular_search.main(["--benchmark", "no_such_module:load", *arguments])
    with pytest.raises(UserError, match=r"Did you mean 'accel-nasbench'\?"):
        tabular_search.main(["--benchmark", "accelnasbench", *arguments])


def test_accel_nasbench_surrogate(tabular_search, tmp_path):
    pytest.importorskip("sklearn")
    import accel_nasbench

    values = {"e": (1, 4, 6), "k": (3, 5), "l": (1, 2, 3), "se": (False, True)}
    rng = np.random.default_rng(0)
    for i in range(400):
        drawn = {
            f"block{b}_{field}": rng.choice(options).item()
            for b in range(7)
            for field, options in values.items()
        }
        # Every combination of a block is met: i walks through them.
        for (field, options), k in zip(
            values.items(), np.unravel_index(i % 36, (3, 2, 3, 2)), strict=True
        ):
            drawn.update({f"block{b}_{field}": options[k] for b in range(i % 7, 7)})
        size = sum(drawn[f"block{b}_e"] * drawn[f"block{b}_l"] for b in range(7))
        entry = {
            "architecture": drawn,
            "metrics": {"val_top1": 50 + size / 10 + float(drawn["block3_se"])},
            "model_info": {"macs": 50.0 + 3 * size},
        }
        (tmp_path / f"result_{i}.json").write_text(json.dumps(entry))
    benchmark = accel_nasbench.load(str(tmp_path))
    assert benchmark.space.num_architectures == 36**7
    choices = benchmark.space.sample(50, torch.Generator().manual_seed(1))
    decoded = [benchmark.space.decode(row) for row in choices]
    expected = [50 + 3 * sum(block["e"] * block["l"] for block in row) for row in decoded]
    assert benchmark.cost(choices).tolist() == pytest.approx(expected)
    assert "R2 0." in benchmark.describe()
    reference = benchmark.reference()
    assert benchmark.accuracy(reference).max() >= benchmark.accuracy(reference[:20_000]).max()


def test_unusable_data(tabular, tmp_path):
    with pytest.raises(DataError, match="No such file"):
        tabular.nas_bench_macro(str(tmp_path / "missing.json"))
    path = tmp_path / "short.json"
    path.write_text('{"00000000": {"test_acc": [1, 2, 3], "flops": 5}}')
    with pytest.raises(DataError, match="not the JSON file of NAS-Bench-Macro"):
        tabular.nas_bench_macro(str(path))
    space = SearchSpace.from_variables("pair", [[[0, 1]]])
    with pytest.raises(DataError, match="each of the 2 architectures"):
        tabular.Table(space, torch.tensor([[0], [0]]), torch.zeros(2, 1), torch.ones(2))
    with pytest.raises(DataError, match="must match 2 rows"):
        tabular.Table(space, torch.tensor([[0], [1]]), torch.zeros(2), torch.ones(2))


def test_every_method_is_judged_after_exactly_so_many_ratings(tabular_search, macro_file, tmp_path):
    report = tabular_search.main(
        [
            *("--benchmark", "nas-bench-macro", "--data", str(macro_file), "--seeds", "2"),
            *("--method", "additive", "budgeted", "random", "evolution"),
            *("--ratings", "150", "60", "--json", str(tmp_path / "out.json")),
        ]
    )
    assert json.loads((tmp_path / "out.json").read_text())["additive"].keys() == {"60", "150"}
    for method, curve in report.items():
        assert list(curve) == [60, 150], method
        for count, scores in curve.items():
            assert set(scores) == KEYS
            assert scores["samples"] == count
            assert scores["within_budget"] == 1
    others = [report[method][150]["regret"] for method in ("budgeted", "random", "evolution")]
    assert report["additive"][150]["regret"] < min(others)
