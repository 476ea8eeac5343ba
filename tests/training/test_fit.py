"""fit: a task of its own, trained, resumed and refused, with nothing but its parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from fpnas.config import CfgNode, get_cfg
from fpnas.data import Fingerprint, SplitPrint
from fpnas.errors import CheckpointError, ConfigError, ResumeError
from fpnas.training import ModelTrainer
from fpnas.training.fit import Parts, Task, fit
from fpnas.utils.checkpoint import read_checkpoint

EPOCH = 3


class Points:
    """A point of a line in each batch."""

    def iterate(self, start_iteration: int = 0) -> Iterator[Tensor]:
        while True:
            yield torch.full((1, 1), start_iteration / 10)
            start_iteration += 1


class LineTrainer(ModelTrainer):
    """Learns y = 2 x, with noise from the global generator."""

    def batch_loss(self, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (self.model(batch) - 2 * batch - 0.1 * torch.randn(1)).pow(2).mean()
        return loss, {"loss": loss.detach()}


class Unit:
    """Stands in the checkpoints."""

    def __init__(self, name: str) -> None:
        self.name = name

    def to_dict(self) -> dict[str, str]:
        return {"unit": self.name}

    def check_contents(self, contents: Mapping[str, Any], source: str) -> None:
        if contents["unit"] != self.name:
            raise CheckpointError(f"'{source}' is in {contents['unit']}.")


def task(cfg: CfgNode, unit: str = "px", images: str = "a") -> Task:
    def prepare() -> Parts:
        assert (Path(cfg.OUTPUT_DIR) / "run.yaml").exists()  # the folder is this run's by now
        torch.manual_seed(1)
        model = nn.Linear(1, 1)
        trainer = LineTrainer(model, torch.optim.SGD(model.parameters(), cfg.SOLVER.LR), Points())
        return Parts(trainer, EPOCH, lambda network: {"slope": float(network.weight.detach())})

    return Task(
        "line",
        lambda: Fingerprint(("line",), {"train": SplitPrint.of(1, [(images, "1")])}),
        prepare,
        split="val",
        metric="slope",
        about=Unit(unit),
        data="points",
        notes=["a note"],
        files={"line.txt": "y = 2 x"},
        figures={"weights": "last"},
    )


@pytest.fixture
def cfg(tmp_path: Path) -> CfgNode:
    cfg = get_cfg()
    cfg.OUTPUT_DIR, cfg.LOG.TENSORBOARD = str(tmp_path / "out"), False
    cfg.SOLVER.EPOCHS, cfg.SOLVER.LR, cfg.LOG.PERIOD = 3, 0.05, 1
    return cfg


def test_files_and_result(cfg):
    result = fit(cfg, task(cfg))
    assert list(result) == ["slope", "best_slope", "best_iteration", "weights"]
    folder = Path(cfg.OUTPUT_DIR)
    assert yaml.safe_load((folder / "result.yaml").read_text()) == result
    assert (folder / "line.txt").read_text() == "y = 2 x"
    log = (folder / "log.txt").read_text()
    assert "Data: points" in log and "WARNING: a note" in log
    assert len((folder / "metrics.json").read_text().splitlines()) == 3 * EPOCH
    for name in ("model_best.pth", "model_final.pth"):
        assert read_checkpoint(folder / name)["unit"] == "px"


def test_a_resumed_task_ends_with_the_same_bits(cfg, tmp_path, monkeypatch):
    expected = fit(cfg, task(cfg))
    cfg.OUTPUT_DIR = str(tmp_path / "stopped")
    step = LineTrainer.run_step

    def stop_at_4(self: LineTrainer) -> None:
        if self.iter == 4:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(LineTrainer, "run_step", stop_at_4)
        fit(cfg, task(cfg))
    assert fit(cfg, task(cfg), resume=True) == expected


def test_another_task_is_not_resumed(cfg):
    fit(cfg, task(cfg))
    with pytest.raises(ResumeError, match="train images"):
        fit(cfg, task(cfg, images="b"), resume=True)
    with pytest.raises(CheckpointError, match="is in px"):
        fit(cfg, task(cfg, unit="mm"), resume=True)
    with pytest.raises(ConfigError, match="allow_changes"):
        fit(cfg, task(cfg), allow_changes=True)
