"""The benchmark of supernet searches, end to end on tiny images."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

from fpnas.config import CfgNode
from fpnas.data import DATASET_REGISTRY, ImageSet, TensorImages
from fpnas.spaces import get_space

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "search_efficiency.py"
SIDE = 8


@DATASET_REGISTRY.register(name="test_search_efficiency")
def shaded(cfg: CfgNode, split: str) -> ImageSet:
    labels = torch.arange(160) % 2
    generator = torch.Generator().manual_seed(len(split))
    noise = torch.randint(120, (160, 3, SIDE, SIDE), generator=generator)
    return TensorImages((noise + 120 * labels[:, None, None, None]).byte(), labels, ["a", "b"])


TWO_METHODS = ("--methods", "fixed", "budgeted", "--seeds", "2", "--train-epochs", "1")


def run(
    monkeypatch: pytest.MonkeyPatch, output_dir: Path, *flags: str, batch_size: int = 16
) -> None:
    options = {
        "DATA.NAME": "test_search_efficiency",
        "DATA.INPUT_SIZE": SIDE,
        "SOLVER.BATCH_SIZE": batch_size,
        "SOLVER.EPOCHS": 2,
        "SEARCH.VAL_BATCH_SIZE": 16,
        "SEARCH.WARMUP_EPOCHS": 1,
        "SEARCH.JOINT_EPOCH": 1.5,
        "SEARCH.TARGET": 5e5,
        "SEARCH.BN_BATCHES": 1,
    }
    pairs = [text for key, value in options.items() for text in (key, str(value))]
    arguments = ["--data", "unused", "--output-dir", str(output_dir), *flags]
    arguments += ["--samples", "3", "--rivals", "3"]
    arguments += ["--opts", *pairs]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    monkeypatch.syspath_prepend(SCRIPT.parent)
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_two_methods_two_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, tmp_path, *TWO_METHODS)
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results) == {"fixed", "budgeted"}
    assert results["fixed"]["samples"] == [3 * 10, 0.0]  # 3 in each of 2 epochs of 5 steps
    assert results["budgeted"]["within_budget"] == [1.0, 0.0]
    assert results["budgeted"]["cost"][0] <= 5e5
    # Fixed samples exceed the target, redrawn ones do not.
    assert results["budgeted"]["flops_spent"][0] < results["fixed"]["flops_spent"][0]
    assert "budgeted" in capsys.readouterr().out

    # A second run finds everything done.
    finished = tmp_path / "fixed-0" / "train.json"
    finished.write_text(json.dumps({"accuracy": 12.5}))
    other = json.loads((tmp_path / "fixed-1" / "train.json").read_text())
    run(monkeypatch, tmp_path, *TWO_METHODS)
    again = json.loads((tmp_path / "results.json").read_text())
    assert again["fixed"]["accuracy"][0] == pytest.approx((12.5 + other["accuracy"]) / 2)


def test_a_mixture_is_a_sample_that_computes_all_choices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--methods", "gumbel", "--seeds", "1", "--train-epochs", "0")
    run(monkeypatch, tmp_path, *flags, batch_size=40)
    [gumbel] = json.loads((tmp_path / "results.json").read_text()).values()
    assert gumbel["samples"] == [4, 0.0]
    assert gumbel["cost"][0] <= 5e5
    # 2 steps of warm-up and 2 with a validation batch; every path at the size of the largest.
    images = 3 * 4 * 40 + 2 * 2 * 16
    _, largest = get_space("FP-NAS-Micro").at(SIDE, num_classes=2).cost_range()
    assert 4 * largest < gumbel["flops_spent"][0] / images < 8.5 * largest


def test_the_judge_sees_every_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    judge_images = runpy.run_path(str(SCRIPT))["judge_images"]
    labels = torch.arange(10).repeat_interleave(20)  # sorted, as in an image folder
    images = TensorImages(torch.zeros(200, 3, 2, 2, dtype=torch.uint8), labels, list("abcdefghij"))
    judged = judge_images(images, 60)
    assert len(judged) == 60
    assert len(judged.labels.unique()) == 10
