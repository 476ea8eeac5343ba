"""A training that starts from weights for other classes, and keys that make no classifier."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from fpnas.errors import CheckpointError, ConfigError
from fpnas.modeling import SearchedNet
from fpnas.training import load_trained, run_evaluation, run_training


@pytest.fixture
def weights(arch, tmp_path: Path) -> Path:
    """Of the tiny architecture, for nine classes."""
    torch.manual_seed(1)
    file = tmp_path / "nine.pth"
    torch.save({"model": SearchedNet(arch.with_num_classes(9)).state_dict()}, file)
    return file


def test_other_classes_start_with_a_fresh_classifier(cfg, weights):
    cfg.merge_from_list(
        ["MODEL.WEIGHTS", str(weights), "MODEL.FREEZE_STAGES", "1", "SOLVER.EPOCHS", "1"]
    )
    run_training(cfg)
    output = Path(cfg.OUTPUT_DIR)
    log = (output / "log.txt").read_text()
    assert log.count("dropped for a fresh classifier of 6 classes: head.fc.weight [9, ") == 1
    trained = load_trained(output / "model_final.pth").model  # frozen BatchNorms are no obstacle
    assert trained.head.fc.out_features == 6
    source = torch.load(weights)["model"]
    for name, value in trained.state_dict().items():
        if name.startswith(("stem.", "stage1.")):
            assert torch.equal(value, source[name]), name
    cfg.MODEL.WEIGHTS = str(output / "model_final.pth")
    run_evaluation(cfg)


def test_an_evaluation_needs_every_weight(cfg, weights):
    cfg.MODEL.WEIGHTS = str(weights)
    with pytest.raises(CheckpointError, match=r"head\.fc\.weight"):
        run_evaluation(cfg)


@pytest.mark.parametrize(
    ("key", "value"), [("MODEL.OUT_FEATURES", "('auto',)"), ("MODEL.IN_CHANNELS", "1")]
)
def test_keys_that_make_no_classifier_of_rgb_images(cfg, key, value):
    cfg.merge_from_list([key, value])
    before = list(logging.getLogger("fpnas").handlers)
    with pytest.raises(ConfigError, match=key):
        run_training(cfg)
    assert not Path(cfg.OUTPUT_DIR).exists()
    assert logging.getLogger("fpnas").handlers == before  # no log file was opened
