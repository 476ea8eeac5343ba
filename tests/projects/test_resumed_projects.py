"""Whose run ``--resume`` goes on with in the projects: after a kill, and with other images."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import detection_cases
import numpy as np
import pytest
import torch
from PIL import Image

import fpnas_detection.run
import fpnas_segmentation.run
from fpnas.config import CfgNode
from fpnas.errors import ConfigError, ResumeError
from fpnas.training import fit
from fpnas.utils.checkpoint import read_checkpoint
from fpnas_segmentation.config import get_segmentation_cfg

Case = tuple[Callable, CfgNode, Path]


class Killed(BaseException):
    """Stands for a kill."""


def detection(voc: Path, arch_file: Path, tmp_path: Path) -> Case:
    shutil.copytree(voc, tmp_path / "data")
    cfg = detection_cases.config(arch_file, DATA__ROOT=tmp_path / "data")
    return fpnas_detection.run, cfg, Path("JPEGImages") / "image2.jpg"


def segmentation(voc: Path, arch_file: Path, tmp_path: Path) -> Case:
    for split in ("train", "val"):
        for name in ("images", "masks"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
        for number in range(3):
            mask = np.full((40, 40), number % 2, dtype=np.uint8)
            Image.fromarray(mask).save(tmp_path / "data" / split / "masks" / f"{number}.png")
            image = Image.fromarray(120 * mask).convert("RGB")
            image.save(tmp_path / "data" / split / "images" / f"{number}.png")
    cfg = get_segmentation_cfg()
    cfg.MODEL.ARCH, cfg.DATA.ROOT = str(arch_file), str(tmp_path / "data")
    cfg.SEGMENTATION.CLASSES, cfg.DATA.INPUT_SIZE = ("dark", "light"), 32
    cfg.DATA.NUM_WORKERS, cfg.SOLVER.EPOCHS, cfg.SOLVER.BATCH_SIZE = 0, 1, 2
    return fpnas_segmentation.run, cfg, Path("train") / "images" / "2.png"


@pytest.fixture(
    params=[pytest.param(detection, marks=detection_cases.needs_coco), segmentation],
    ids=lambda make: make.__name__,
)
def case(request, voc: Path, arch_file: Path, tmp_path: Path) -> Case:
    module, cfg, image = request.param(voc, arch_file, tmp_path)
    cfg.OUTPUT_DIR, cfg.LOG.TENSORBOARD = str(tmp_path / "out"), False
    return module, cfg, image


def other(cfg: CfgNode, *pairs: object) -> CfgNode:
    cfg = cfg.clone()
    cfg.merge_from_list([str(item) for item in pairs])
    return cfg


def test_a_killed_run_is_the_one_that_is_resumed(case: Case, tmp_path: Path, monkeypatch) -> None:
    module, cfg, _ = case
    module.run_training(cfg)
    second = other(cfg, "SOLVER.LR", 0.002)
    expected = module.run_training(other(second, "OUTPUT_DIR", tmp_path / "whole"))

    def die(*args: object, **kwargs: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(fit, "BestCheckpointHook", die)  # it has the folder by then
        module.run_training(second)
    with pytest.raises(ResumeError, match=r"SOLVER\.LR: 0\.002 then"):
        module.run_training(cfg, resume=True)
    assert module.run_training(second, resume=True) == expected
    assert {"model_final.pth", "result.yaml", "run.yaml"} <= {
        file.name for file in (tmp_path / "out" / "earlier-1").iterdir()
    }
    whole, resumed = (
        read_checkpoint(tmp_path / name / "model_final.pth")["model"] for name in ("whole", "out")
    )
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_what_differs_is_refused_and_named(case: Case, tmp_path: Path) -> None:
    module, cfg, image = case
    module.run_training(cfg)
    module.run_training(other(cfg, "DATA.NUM_WORKERS", 1, "CHECKPOINT.KEEP", 3), resume=True)
    shutil.move(tmp_path / "data", tmp_path / "moved")
    cfg = other(cfg, "DATA.ROOT", tmp_path / "moved")
    module.run_training(cfg, resume=True)
    with (tmp_path / "moved" / image).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ResumeError, match=f"train images: . then, . now .changed: {image}"):
        module.run_training(cfg, resume=True)
    module.run_training(cfg, resume=True, allow_changes=True)
    log = (tmp_path / "out" / "log.txt").read_text()
    assert "train images:" in log.rsplit("Resuming with changes", 1)[1]
    (text := (tmp_path / "out" / "run.yaml")).write_text(
        text.read_text().replace("kind: ", "kind: another-")
    )
    with pytest.raises(ResumeError, match="holds a another-"):
        module.run_training(cfg, resume=True, allow_changes=True)
    with pytest.raises(ConfigError, match="CHECKPOINT.KEEP"):
        module.run_training(other(cfg, "CHECKPOINT.KEEP", 1))
    assert not (tmp_path / "out" / "earlier-1").exists()


def test_annotations_are_part_of_the_data(case: Case, tmp_path: Path) -> None:
    module, cfg, image = case
    module.run_training(cfg)
    if module is fpnas_detection.run:
        file = tmp_path / "data" / "Annotations" / f"{image.stem}.xml"
        file.write_text(file.read_text().replace("<xmin>", "<xmin>1"))
    else:
        file = tmp_path / "data" / "train" / "masks" / image.name
        Image.fromarray(np.full((40, 40), 1, dtype=np.uint8)).save(file)
    with pytest.raises(ResumeError, match=f"changed: {image}"):
        module.run_training(cfg, resume=True)
