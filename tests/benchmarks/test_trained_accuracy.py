"""The benchmark of accuracies, and the references that it trains."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from fvcore.nn import FlopCountAnalysis

from fpnas.config import CfgNode
from fpnas.data import DATASET_REGISTRY, ImageSet, TensorImages
from fpnas.errors import BudgetError
from fpnas.modeling import SearchedNet
from fpnas.spaces import get_space

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "accuracy.py"
SIDE = 8


@DATASET_REGISTRY.register(name="test_accuracy")
def noise(cfg: CfgNode, split: str) -> ImageSet:
    generator = torch.Generator().manual_seed(len(split))
    images = torch.randint(256, (24, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    return TensorImages(images, torch.arange(24) % 2, ["a", "b"])


@pytest.fixture
def accuracy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import accuracy

    return accuracy


@pytest.mark.parametrize("text", ["resnet20", "mobilenetv2:3e6", "mobilenetv3_small:12e6"])
def test_references_cost_what_they_say(accuracy: ModuleType, text: str) -> None:
    arch = accuracy.network(text, 32, 10)
    network = SearchedNet(arch).eval()
    image = torch.zeros(1, 3, 32, 32)
    assert network(image).shape == (1, 10)
    counted = FlopCountAnalysis(network, image).unsupported_ops_warnings(False).by_operator()
    assert arch.flops() == counted["conv"] + counted["linear"]
    if ":" in text:
        budget = float(text.split(":")[1])
        assert 0.9 * budget <= arch.flops() <= budget
    else:
        assert arch.params == 270896  # He et al. (2016) print 0.27 M


def test_random_networks_differ_and_use_their_budget(accuracy: ModuleType) -> None:
    nets = [accuracy.network(f"random:FP-NAS-Micro:4e6:{seed}", 28, 10) for seed in range(3)]
    assert len(set(nets)) == 3
    assert all(0.95 * 4e6 <= net.flops() <= 4e6 for net in nets)
    assert accuracy.network("random:FP-NAS-Micro:4e6:0", 28, 10) == nets[0]
    with pytest.raises(BudgetError, match="costs 9.5 to 10"):
        accuracy.network("random:FP-NAS-Micro:10:0", 28, 10)
    with pytest.raises(accuracy.UserError, match="'random:FP-NAS-Micro:many:0'.*number"):
        accuracy.network("random:FP-NAS-Micro:many:0", 28, 10)
    with pytest.raises(accuracy.UserError, match="'mobilenetv9:3e6'"):
        accuracy.network("mobilenetv9:3e6", 28, 10)


def test_trains_once_and_reports_the_spread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arch = get_space("FP-NAS-Micro").at(SIDE, 2).architecture([0] * 20, "found")
    arch.save(tmp_path / "found.yaml")
    options = ("DATA.NAME", "test_accuracy", "DATA.INPUT_SIZE", str(SIDE))
    options += ("SOLVER.BATCH_SIZE", "8", "SOLVER.EPOCHS", "1")

    def run(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        monkeypatch.syspath_prepend(SCRIPT.parent)
        runpy.run_path(str(SCRIPT), run_name="__main__")

    out = str(tmp_path / "out")
    networks = ("--networks", str(tmp_path / "found.yaml"), "resnet20")
    train = ("train", "--output-dir", out, "--seeds", "2", *networks, "--opts", *options)
    run(*train)
    file = tmp_path / "out" / "found" / "1" / "accuracy.json"
    result = json.loads(file.read_text())
    assert (result["seed"], result["epochs"], result["flops"]) == (1, 1, arch.flops())
    file.write_text(json.dumps({**result, "top1": 30.0}))
    other = json.loads((file.parents[1] / "0" / "accuracy.json").read_text())["top1"]
    run(*train)  # finds all of it done
    run("report", "--output-dir", out)
    rows = json.loads((tmp_path / "out" / "accuracy.json").read_text())
    assert [row["network"] for row in rows] == ["found", "resnet20"]
    assert rows[0]["top-1, %"] == pytest.approx((30 + other) / 2)
    assert rows[0]["SD"] == pytest.approx(abs(30 - other) / 2**0.5)
    assert "resnet20" in capsys.readouterr().out
    figure = (tmp_path / "out" / "accuracy.svg").read_text()
    assert "resnet20" in figure and "top-1, %" in figure


def test_record_adds_trainings_of_the_recipe_to_the_comparison(
    accuracy: ModuleType, tmp_path: Path
) -> None:
    arch = get_space("FP-NAS-Micro").at(SIDE, 2).architecture([0] * 20, "found")
    arch.save(tmp_path / "found.yaml")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("DATA: {NAME: test_accuracy}\nSOLVER: {BATCH_SIZE: 8, LR: 0.01}\n")
    common = ["--output-dir", str(tmp_path / "out"), "--config-file", str(recipe)]
    opts = ["DATA.INPUT_SIZE", str(SIDE), "SOLVER.EPOCHS", "1"]
    networks = ["--networks", str(tmp_path / "found.yaml")]
    accuracy.main(["train", *common, *networks, "--opts", *opts])
    comparison = tmp_path / "comparison.yaml"
    record = ["record", *common, "--comparison", str(comparison)]
    with pytest.raises(accuracy.UserError, match="--dataset"):
        accuracy.main(record)
    accuracy.main([*record, "--dataset", "noise"])
    entry = yaml.safe_load(comparison.read_text())["comparisons"][0]
    assert (entry["dataset"], entry["epochs"], entry["input_size"]) == ("noise", 1, SIDE)
    assert [one["network"] for one in entry["trained"]] == ["found"]

    other = "DATA: {NAME: test_accuracy}\nSOLVER: {BATCH_SIZE: 8, LR: 0.01}\n"
    recipe.write_text(other + "MODEL: {DROPOUT: 0.2}\n")
    with pytest.raises(accuracy.UserError, match="differs from the recipe .* in MODEL"):
        accuracy.main([*record, "--dataset", "noise"])
    recipe.write_text("DATA: {NAME: test_accuracy}\nSOLVER: {BATCH_SIZE: 8, LR: 0.02}\n")
    before = comparison.read_bytes()
    with pytest.raises(accuracy.UserError, match="differs from the recipe .* in SOLVER"):
        accuracy.main([*record, "--dataset", "noise"])
    assert comparison.read_bytes() == before
