"""Searches that start from a trained network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from shades import CLASSES, ORIGIN, SIDE, SPACE, make_cfg, saved
from torch import Tensor

from fpnas.config import find_config, get_cfg
from fpnas.engine import Interrupted
from fpnas.errors import BudgetError, CheckpointError, ConfigError, UserError
from fpnas.search.length import with_search_length
from fpnas.search.methods import SearchTrainer
from fpnas.search.run import run_search
from fpnas.training import load_trained
from fpnas.training.trainer import ClassificationTrainer


def model_of(file: Path) -> dict[str, Tensor]:
    return torch.load(file, weights_only=True)["model"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole search from a network of five other classes."""
    folder = tmp_path_factory.mktemp("pretrained")
    weights = saved(folder, ("a", "b", "c", "d", "e"))
    (result,) = run_search(make_cfg(folder, weights))
    return folder, result


def test_finds_a_part_of_the_network_within_budget(finished):
    folder, result = finished
    found = load_trained(folder / "search" / "network.pth")
    assert found.description.classes == CLASSES
    assert found.model.arch == SPACE.architecture(result.choices, found.model.arch.name)
    assert 0.9 * result.target <= result.cost <= result.target
    assert result.cost == found.model.arch.flops(SIDE)
    full = load_trained(folder / "search" / "full" / "model_final.pth")
    assert full.model.arch == ORIGIN.with_num_classes(3)


@pytest.mark.parametrize(("trainer", "step"), [(ClassificationTrainer, 4), (SearchTrainer, 8)])
def test_resumed_anywhere_it_ends_with_the_same_bits(
    finished, tmp_path, monkeypatch, trainer, step
):
    """In the training of the whole network, and while it rates."""
    weights = saved(tmp_path, ("a", "b", "c", "d", "e"))
    run_step = trainer.run_step

    def stopped(self):
        if self.iter == step:
            raise Interrupted(2, "stopped by the test")
        run_step(self)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "run_step", stopped)
        with pytest.raises(Interrupted):
            run_search(make_cfg(tmp_path, weights))
    (result,) = run_search(make_cfg(tmp_path, weights), resume=True)
    assert torch.equal(result.choices, finished[1].choices)
    for name in ("model_final.pth", "network.pth"):
        found, expected = (model_of(f / "search" / name) for f in (tmp_path, finished[0]))
        assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_a_network_that_knows_the_classes_is_not_trained_again(finished, tmp_path):
    """And the training of an earlier run moves with that run."""
    shutil.copytree(finished[0] / "search", tmp_path / "search")
    run_search(make_cfg(tmp_path, saved(tmp_path, CLASSES)))
    assert not (tmp_path / "search" / "full").exists()
    assert (tmp_path / "search" / "earlier-1" / "full" / "model_final.pth").exists()


def test_length_follows_the_number_of_images():
    """Few images: small batches, many passes; every architecture is rated on all that there are."""
    cfg = get_cfg()
    cfg.merge_from_file(find_config("search/photos.yaml"))
    few, many = with_search_length(cfg, 250), with_search_length(cfg, 5000)
    assert (few.SOLVER.BATCH_SIZE, few.SEARCH.VAL_BATCH_SIZE) == (16, 38)
    assert (many.SOLVER.BATCH_SIZE, many.SEARCH.VAL_BATCH_SIZE) == (32, 128)
    assert few.SOLVER.LR == many.SOLVER.LR / 2 == cfg.SOLVER.LR / 2
    for length, steps in ((few, 212 // 16), (many, 4250 // 32)):
        assert length.SEARCH.WARMUP_EPOCHS * steps >= 240
        rating = (length.SOLVER.EPOCHS - length.SEARCH.WARMUP_EPOCHS) * steps
        assert rating * cfg.SEARCH.NUM_SAMPLES >= 480
    own = cfg.clone()
    own.merge_from_list(["SOLVER.EPOCHS", "3", "SEARCH.WARMUP_EPOCHS", "2"])
    given = with_search_length(own, 250)
    assert (given.SOLVER.EPOCHS, given.SEARCH.WARMUP_EPOCHS, given.SOLVER.BATCH_SIZE) == (3, 2, 16)
    assert with_search_length(given, 250) is given


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"SEARCH__TARGET": 10}, BudgetError, "less than any architecture .* Reachable"),
        ({"SEARCH__SHARING": "paper"}, ConfigError, "SEARCH.SHARING.*valid: 'all'"),
        ({"SEARCH__METHOD": "differentiable"}, ConfigError, "differentiable"),
        ({"SEARCH__FULL_EPOCHS": -1}, ConfigError, "SEARCH.FULL_EPOCHS"),
        ({"SEARCH__SPACE": "around:efficientnet_lite0"}, CheckpointError, "another architecture"),
        ({"SEARCH__SPACE": "around:efficientnet_lite"}, UserError, "efficientnet_lite0"),
        ({"MODEL__WEIGHTS": ""}, ConfigError, "MODEL.WEIGHTS; both are empty"),
        ({"MODEL__WEIGHTS": "", "SOLVER__EPOCHS": 0}, ConfigError, "both are empty.*--model"),
        ({"MODEL__WEIGHTS": "missing.pth"}, CheckpointError, "missing.pth"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, overrides, error, message):
    cfg = make_cfg(tmp_path, saved(tmp_path, CLASSES), **overrides)
    with pytest.raises(error, match=message):
        run_search(cfg)
    assert not (tmp_path / "search").exists()
