"""A warning where images are normalised in another way than the weights have learned."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fpnas.config import CfgNode, get_cfg
from fpnas.data import preprocessing
from fpnas.modeling import SearchedNet
from fpnas.training import normalisation_notes, run_training
from fpnas.training.artifact import Description

HALVES = ("DATA.MEAN", "(0.5, 0.5, 0.5)")


@pytest.fixture
def described(cfg: CfgNode, arch, tmp_path: Path) -> str:
    """Weights of the tiny architecture that say what they were trained with."""
    about = Description(arch, preprocessing(cfg), ("a", "b", "c", "d", "e", "f"))
    torch.save({"model": SearchedNet(arch).state_dict(), **about.to_dict()}, tmp_path / "a.pth")
    return str(tmp_path / "a.pth")


def test_the_log_of_a_training_names_the_key_and_both_values(cfg, described):
    cfg.merge_from_list(["MODEL.WEIGHTS", described, "SOLVER.EPOCHS", "1", *HALVES])
    run_training(cfg)
    log = (Path(cfg.OUTPUT_DIR) / "log.txt").read_text()
    expected = "trained with DATA.MEAN (0.485, 0.456, 0.406), this run has (0.5, 0.5, 0.5)"
    assert f"WARNING: {described} was {expected}" in log
    assert "trained with DATA.STD" not in log


def test_published_weights_are_known_by_their_record():
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.WEIGHTS", "zoo://efficientnet_lite0", *HALVES])
    [note] = normalisation_notes(cfg)
    assert "DATA.STD" in note and "this run has (0.229, 0.224, 0.225)" in note


def test_nothing_is_said_where_nothing_differs_or_is_known(cfg, described, arch, tmp_path):
    cfg.merge_from_list(["MODEL.WEIGHTS", described, "DATA.INPUT_SIZE", "16"])
    assert normalisation_notes(cfg) == []
    torch.save(SearchedNet(arch).state_dict(), tmp_path / "alone.pth")
    cfg.merge_from_list(["MODEL.WEIGHTS", str(tmp_path / "alone.pth"), *HALVES])
    assert normalisation_notes(cfg) == []
