"""A unit of the benchmark: one network, one learning rate, one seed; and where it starts."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from units import stored

from fpnas.config import CfgNode
from fpnas.data import TestLoader, find_splits, preprocessing
from fpnas.errors import UserError
from fpnas.modeling import SearchedNet, recalibrate_bn
from fpnas.training.accuracy import evaluate
from fpnas.training.artifact import Description
from fpnas.training.fine_tuning import with_length
from fpnas.utils.rng import derive_seed
from photos_lib.row import CUT, FRESH, Given, Row, RowFailed, load_network
from photos_lib.study import CHOOSE, FULL, Study
from photos_lib.training import cpu_counted, multiply_adds, parameters, train

_BN_BATCHES = 16


@dataclass(frozen=True)
class Place:
    """A row at a share of the FLOPs, in a stage: all of its units start from the same.

    Attributes:
        study: the output folder.
        stage: "choose" or "final".
        name: of the row.
        row: how its network comes about.
        percent: of the FLOPs of the whole network.
        teacher_file: the whole network; None for the row "full".
    """

    study: Study
    stage: str
    name: str
    row: Row
    percent: int
    teacher_file: Path | None

    @property
    def folder(self) -> Path:
        return self.study.place(self.stage, self.name, self.percent)

    def failure(self) -> str:
        """Why the row has no network here, as its library put it; "" if it has."""
        return self._start().get("message", "") if self.row.weights == CUT else ""

    def check_source(self) -> None:
        """Raise UserError if the units here were made from another file than now."""
        source = self.row.files.get(self.percent, "")
        noted = stored(self.folder / "source.json", lambda: source)
        if noted != source:
            raise UserError(f"{self.folder} was made from '{noted}', not from '{source}'.")

    def train(self, lr: float, seed: int) -> dict[str, Any]:
        """The figures of a training, which goes on where it was interrupted.

        "top1", "top5" (percent), "loss" on the stage's test photos; "lr", "seed", "flops",
        "params", and "cpu_seconds" over all sittings, but for those that were killed.
        """
        unit = self.folder / (f"lr-{lr:g}" if self.stage == CHOOSE else f"seed-{seed}")
        return stored(unit / "result.json", lambda: self._train(unit, lr, seed))

    def _train(self, unit: Path, lr: float, seed: int) -> dict[str, Any]:
        cfg = self.study.config(self.stage, unit, lr, seed)
        if self.row.weights == FRESH:
            cfg.MODEL.NORM = "BN"  # the recipe's may be a frozen one, for trained weights
        with cpu_counted(unit / "cpu.json"):
            network, teacher = self._network(cfg), self._teacher(cfg)
            about = None
            if self.name == FULL:  # it is the teacher that others load
                classes = find_splits(cfg)[0].classes
                about = Description(network.arch, preprocessing(cfg), classes)
            costs = {
                "flops": multiply_adds(network, cfg.DATA.INPUT_SIZE),
                "params": parameters(network),
            }
            result = train(cfg, network, teacher, about)
        cpu_seconds = json.loads((unit / "cpu.json").read_text())
        return {"lr": lr, "seed": seed, **result, **costs, "cpu_seconds": cpu_seconds}

    def _network(self, cfg: CfgNode) -> nn.Module:
        if self.row.weights != CUT:
            torch.manual_seed(derive_seed(cfg.SEED, "weights"))
            return self.row.start(self._given(cfg))
        self._start()
        return torch.load(self.folder / "start.pt", weights_only=False)  # our own file

    def _start(self) -> dict[str, Any]:
        return stored(self.folder / "start.json", self._make_start)

    def _make_start(self) -> dict[str, Any]:
        """Makes start.pt; "top1" and "loss" of that network on the stage's test photos."""
        cfg = self.study.config(self.stage, self.folder)
        given = self._given(cfg)
        with cpu_counted(self.folder / "start-cpu.json"):
            try:
                network = self.row.start(given)
            except RowFailed as error:
                return {"message": str(error)}
            batches = itertools.islice(given.batches(), _BN_BATCHES)
            recalibrate_bn(network, [images for images, _ in batches])
        torch.save(network.eval(), self.folder / "start.pt")
        _, images = find_splits(cfg)
        figures = evaluate(network, TestLoader(images, cfg, cfg.TEST.BATCH_SIZE))
        return {**figures, "cpu_seconds": json.loads((self.folder / "start-cpu.json").read_text())}

    def _given(self, cfg: CfgNode) -> Given:
        images, _ = find_splits(cfg)
        return Given(
            with_length(cfg, len(images)),
            self.study.config(CHOOSE, self.folder),
            self.percent,
            self._teacher(cfg),
            self.study.folder / "decisions" / self.name,
        )

    def _teacher(self, cfg: CfgNode) -> SearchedNet | None:
        if self.teacher_file is None:
            return None
        return load_network(self.teacher_file, find_splits(cfg)[0].classes)
