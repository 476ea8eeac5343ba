"""The benchmark of rank correlations, end to end on tiny images, and its statistics."""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from fpnas.config import CfgNode
from fpnas.data import DATASET_REGISTRY, ImageSet, TensorImages
from fpnas.errors import UserError
from fpnas.search import search
from fpnas.spaces import NetworkSpace, get_space

FOLDER = Path(__file__).parents[2] / "benchmarks"
SIDE, TARGET = 8, 4e5


@DATASET_REGISTRY.register(name="test_rank_correlation")
def sorted_shades(cfg: CfgNode, split: str) -> ImageSet:
    """All images of a class stand together, as in a folder."""
    labels = torch.arange(160) // 80
    generator = torch.Generator().manual_seed(len(split))
    noise = torch.randint(120, (160, 3, SIDE, SIDE), generator=generator)
    return TensorImages((noise + 120 * labels[:, None, None, None]).byte(), labels, ["a", "b"])


@pytest.fixture
def benchmark(monkeypatch):
    """The script, imported as it is when it runs: with its own folder on the path."""
    monkeypatch.syspath_prepend(FOLDER)
    threads = torch.get_num_threads()
    import rank_correlation
    from rank_lib import statistics as rank_statistics

    monkeypatch.setattr(rank_statistics, "_RESAMPLES", 100)
    yield rank_correlation
    torch.set_num_threads(threads)
    for name in [n for n in sys.modules if n.partition(".")[0] in _MODULES]:
        del sys.modules[name]


_MODULES = ("rank_correlation", "rank_lib", "units")


def arguments(folder: Path, *flags: str, epochs: int = 2) -> list[str]:
    opts = {
        "DATA.NAME": "test_rank_correlation",
        "DATA.INPUT_SIZE": SIDE,
        "SOLVER.BATCH_SIZE": 16,
        "SOLVER.EPOCHS": epochs,
        "SEARCH.TARGET": TARGET,
        "SEARCH.BN_BATCHES": 1,
        "TEST.BATCH_SIZE": 20,
    }
    pairs = [text for key, value in opts.items() for text in (key, str(value))]
    return [
        *("--data", "unused", "--output-dir", str(folder), "--budget", "5", "--wide", "2"),
        *("--repeats", "1", "--seeds", "2", "--rating-images", "40", "--report-images", "20"),
        *(*flags, "--opts", *pairs, "--train-opts", "SOLVER.EPOCHS", "1"),
    ]


@pytest.mark.slow
def test_whole_study(benchmark, tmp_path, capsys):
    flags = arguments(tmp_path, "--settings", "base", "sandwich")
    benchmark.main(["standalone", "supernet", "report", *flags])
    trained = {f.parent.name: f for f in (tmp_path / "standalone").glob("*/result.json")}
    assert len(trained) == 5 + 2 + 1
    results = {name: json.loads(file.read_text()) for name, file in trained.items()}
    space = get_space("FP-NAS-Micro").at(SIDE, num_classes=2)
    for result in results.values():
        assert result["flops"] == space.architecture(result["choices"]).flops(SIDE)
        low = 0.95 if result["set"] == "budget" else 0.3
        assert low * TARGET <= result["flops"] <= TARGET
    assert results["budget-00-0"]["choices"] == results["budget-00-1"]["choices"]
    assert results["budget-00-0"]["loss"] != results["budget-00-1"]["loss"]
    middle = math.sqrt(0.3) * TARGET
    assert results["wide-00-0"]["flops"] <= middle <= results["wide-01-0"]["flops"]

    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["supernets"]) == {"base-0", "sandwich-0"}
    assert report["supernets"]["base-0"]["steps"] == 2 * 5
    assert {r["images"] for r in report["correlations"]} == {0, 20, 40}
    rating = json.loads((tmp_path / "supernet/base-0/ratings/budget-03.json").read_text())
    [record] = [
        r
        for r in report["correlations"]
        if (r["source"], r["bn"], r["score"], r["set"], r["images"])
        == ("base-0", "batch", "loss", "budget", 20)
    ]
    assert record["count"] == 5
    names = [f"budget-0{i}" for i in range(5)]
    folder = tmp_path / "supernet" / "base-0" / "ratings"
    scores = [-json.loads((folder / f"{n}.json").read_text())["batch"]["loss"][0] for n in names]
    truth = [results[f"{n}-0"]["accuracy"] for n in names]
    assert record["mean_score"] == pytest.approx(statistics.mean(scores))
    expected = stats.kendalltau(scores, truth).statistic
    assert record["tau"] == pytest.approx(0 if math.isnan(expected) else expected)
    assert len(rating["recalibrated"]["accuracy"]) == 2
    assert "highest_tau" in capsys.readouterr().out
    assert (tmp_path / "report.svg").read_text().startswith("<?xml")

    # A second run finds everything done, and a larger one keeps what there is.
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.json")}
    more = [flag if flag != "5" else "6" for flag in flags]
    benchmark.main(["standalone", "supernet", *more])
    new = {f.relative_to(tmp_path).as_posix() for f in tmp_path.rglob("*.json")}
    assert all(file.stat().st_mtime_ns == time for file, time in before.items())
    assert {"standalone/budget-05-0/result.json", "supernet/base-0/ratings/budget-05.json"} <= new

    other = ["--low", "0.9", *flags]
    with pytest.raises(UserError, match="candidates differ"):
        benchmark.main(["standalone", *other])


def _cheap_is_likely(space: NetworkSpace) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda choices: -space.flops(choices).double()


def test_found_networks_stand_beside_the_random_ones(benchmark, tmp_path, capsys):
    space = get_space("FP-NAS-Micro").at(SIDE, num_classes=2)
    found = search(space, _cheap_is_likely(space), space.flops, TARGET, iterations=3)
    file = tmp_path / "search" / "search_result.pth"
    found.save(file)
    flags = arguments(tmp_path / "study", "--settings", "base", "--found", str(file), epochs=1)
    benchmark.main(["standalone", "supernet", "report", *flags])

    report = json.loads((tmp_path / "study" / "report.json").read_text())
    [row] = report["found"]
    files = (tmp_path / "study" / "standalone").glob("*-0/result.json")
    results = {r["name"]: r for r in (json.loads(f.read_text()) for f in files)}
    assert results[row["network"]]["choices"] == found.choices.tolist()
    rivals = [r["accuracy"] for r in results.values() if r["set"] == "budget"]
    assert row["beats"] == f"{sum(r < row['accuracy'] for r in rivals)} of 5"
    assert (tmp_path / f"study/supernet/base-0/ratings/{row['network']}.json").exists()
    assert report["spread"]["all"]["architectures"] == 5 + 2  # without the found one
    assert row["network"] in capsys.readouterr().out

    other = get_space("FP-NAS-Mini").at(SIDE, num_classes=2)
    search(other, _cheap_is_likely(other), iterations=3).save(file)
    with pytest.raises(UserError, match="FP-NAS-Mini"):
        benchmark.main(["standalone", *flags])


def test_supernet_resumes_with_the_same_bits(benchmark, tmp_path, monkeypatch):
    from rank_lib.supernet import SampledTrainer

    flags = ("--settings", "base", "--budget", "1", "--wide", "0")
    benchmark.main(["supernet", *arguments(tmp_path / "whole"), *flags])
    step = SampledTrainer.run_step

    def killed(trainer):
        if trainer.iter == 7:  # a checkpoint was written after 5
            raise KeyboardInterrupt
        step(trainer)

    monkeypatch.setattr(SampledTrainer, "run_step", killed)
    with pytest.raises(KeyboardInterrupt):
        benchmark.main(["supernet", *arguments(tmp_path / "killed"), *flags])
    monkeypatch.setattr(SampledTrainer, "run_step", step)
    benchmark.main(["supernet", *arguments(tmp_path / "killed"), *flags])
    weights = [
        torch.load(tmp_path / name / "supernet/base-0/model_final.pth")["model"]
        for name in ("whole", "killed")
    ]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_a_piece_belongs_to_one_process(benchmark, tmp_path):
    from units import claimed

    with claimed(tmp_path / "piece") as first, claimed(tmp_path / "piece") as second:
        assert first and not second
    with claimed(tmp_path / "piece") as again:
        assert again


def test_extremes_of_the_sandwich(benchmark, tmp_path):
    from rank_lib.supernet import SETTINGS, sampled

    study = benchmark.open_study(benchmark.parser().parse_args(["report", *arguments(tmp_path)]))
    assert tuple(study.space.flops(study.extremes).tolist()) == study.space.cost_range()
    drawn = sampled(study, SETTINGS["sandwich"], seed=0, iteration=3)
    assert len(drawn) == 3 and int(study.space.flops(drawn)[1]) <= TARGET
    assert torch.equal(drawn, sampled(study, SETTINGS["sandwich"], seed=0, iteration=3))


def test_statistics_of_simulated_rankings(benchmark):
    from rank_lib.statistics import correlate, gain, highest_tau, seed_deviation

    generator = np.random.default_rng(0)
    truth, noise = generator.normal(size=2000), 0.8
    measured = truth + noise * generator.normal(size=2000)
    # What a perfect predictor reaches with noisy measurements.
    reached = stats.kendalltau(truth, measured).statistic
    assert highest_tau(list(measured), noise) == pytest.approx(reached, abs=0.03)
    assert highest_tau([1.0, 1.1, 1.2], 5.0) == 0

    pairs = truth[:2000, None] + noise * generator.normal(size=(2000, 3))
    assert seed_deviation([[0.0], *pairs.tolist()]) == pytest.approx(noise, rel=0.05)

    small = [correlate(truth[i : i + 25], measured[i : i + 25]) for i in range(0, 1000, 25)]
    spread = statistics.stdev(c.tau for c in small)
    assert statistics.mean(c.error for c in small) == pytest.approx(spread, rel=0.3)
    assert sum(c.low <= reached <= c.high for c in small) >= 34
    assert correlate([1.0] * 6, truth[:6]).tau == 0

    better, error = gain(truth[:100], generator.normal(size=100), measured[:100])
    assert better > 2 * error > 0
    assert gain(truth[:30], truth[:30], measured[:30]) == (0, 0)
