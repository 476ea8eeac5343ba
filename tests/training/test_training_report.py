"""The report of a training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from report_checks import check_page

from fpnas.config import get_cfg
from fpnas.errors import ConfigError, UserError
from fpnas.spaces import get_space
from fpnas.training.report import write_training_report


def write_metrics(folder: Path) -> None:
    lines = []
    for i in range(19, 400, 20):
        line = {"iteration": i, "loss": 2 * 0.99**i, "train_top1": i / 5, "lr": 0.1, "time": 0.1}
        if i % 100 == 99:
            line |= {"test_top1": 50 + i / 10, "test_top5": 99.0, "test_loss": 1.0}
        lines.append(json.dumps(line))
    (folder / "metrics.json").write_text("\n".join(lines) + '\n{"iterat')


def test_page_has_curves_figures_and_drawing(tmp_path: Path) -> None:
    write_metrics(tmp_path)
    space = get_space("FP-NAS-Micro")
    arch = space.architecture(space.sample(1)[0], "small-one")
    arch.save(tmp_path / "architecture.yaml")
    cfg = get_cfg()
    cfg.DATA.INPUT_SIZE = 56
    (tmp_path / "config.yaml").write_text(cfg.dump())
    result = {
        "top1": 91.62, "top5": 99.5, "loss": 0.3104, "best_top1": 91.7, "best_iteration": 300,
        "flops": arch.flops(56), "params": arch.params, "weights": "ema",
    }  # fmt: skip
    (tmp_path / "result.yaml").write_text(yaml.safe_dump(result))

    page = write_training_report(tmp_path).read_text(encoding="utf-8")

    text = check_page(page)
    for expected in (
        "Training of small-one",
        "400 steps on fashion_mnist_mini",
        "91.62 %",
        "99.50 %",
        "0.310 nats",
        "91.70 %",
        "after 300 steps",
        "averaged weights",
        f"{arch.flops(56) / 1e6:.3g} M",
        "40 s",
        "input 56 × 56",
    ):
        assert expected in text, expected
    for title in ("Loss", "Accuracy", "Learning rate"):
        assert title in text
    assert "Norm of the gradient" not in text  # not recorded, hence no empty plot
    assert page.count('<g class="block"') == len(arch.layers())


def test_metrics_alone_are_enough(tmp_path: Path) -> None:
    write_metrics(tmp_path)

    text = check_page(write_training_report(tmp_path).read_text(encoding="utf-8"))

    assert "89.90 %" in text  # the last evaluation on record


def test_best_checkpoint_without_evaluation_is_left_out(tmp_path: Path) -> None:
    write_metrics(tmp_path)
    (tmp_path / "result.yaml").write_text("top1: 50.0\nbest_top1: null\nbest_iteration: null\n")

    text = check_page(write_training_report(tmp_path).read_text(encoding="utf-8"))

    assert "50.00 %" in text and "best test top-1" not in text


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"metrics\.json"):
        write_training_report(tmp_path)
    write_metrics(tmp_path)
    (tmp_path / "result.yaml").write_text("- a list\n")
    with pytest.raises(ConfigError, match=r"result\.yaml is no mapping"):
        write_training_report(tmp_path)
    assert not (tmp_path / "report.html").exists()
