"""The cost of a search, from its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fpnas.config import get_cfg
from fpnas.errors import CheckpointError, ConfigError
from fpnas.spaces import get_space
from fpnas_zoo.searches import search_cost

STEPS = [
    {"iteration": 1, "num_samples": 2, "sampled_cost": 1e6, "time": 1.0},
    {"iteration": 2, "num_samples": 3, "sampled_cost": 2e6, "time": 2.0, "val_loss": 1.0},
    {"iteration": 3, "test_top1": 50.0},
    # Interrupted, and taken again.
    {"iteration": 4, "num_samples": 9, "sampled_cost": 9e6, "time": 9.0, "val_loss": 1.0},
    {"iteration": 4, "num_samples": 4, "sampled_cost": 1e6, "time": 4.2, "val_loss": 1.0},
]


def written(folder: Path, *opts: str, **step: float) -> Path:
    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.BATCH_SIZE", "10", "SEARCH.VAL_BATCH_SIZE", "7", *opts])
    (folder / "config.yaml").write_text(cfg.dump())
    (folder / "metrics.json").write_text("".join(json.dumps({**s, **step}) + "\n" for s in STEPS))
    return folder


def test_every_step_counts_once_and_rated_samples_only(tmp_path: Path) -> None:
    cost = search_cost(written(tmp_path))
    assert cost.samples == 3 + 4
    assert cost.flops == 30 * 2 * 1e6 + 37 * 3 * 2e6 + 37 * 4 * 1e6
    assert cost.core_hours == round(7.2 / 3600, 2)


def test_multiply_adds_are_those_of_the_images_not_of_the_target(tmp_path: Path) -> None:
    space = get_space("FP-NAS-Micro")
    choices = space.sample(500)
    ratio = float(space.at(28).flops(choices).sum() / space.at(56).flops(choices).sum())
    opts = ("SEARCH.TARGETS", "[4e6, 8e6]", "SEARCH.COST_INPUT_SIZES", "[56, 28]")
    plain = search_cost(written(tmp_path)).flops
    nominal = search_cost(written(tmp_path, *opts, target=4e6)).flops
    assert nominal == pytest.approx(ratio * plain, rel=0.02)
    assert search_cost(written(tmp_path, *opts, target=8e6)).flops == plain


def test_what_has_no_such_cost(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no search: there is no config.yaml"):
        search_cost(tmp_path)
    with pytest.raises(ConfigError, match="probabilistic search for latency"):
        search_cost(written(tmp_path, "SEARCH.COST", "latency"))
    with pytest.raises(ConfigError, match="differentiable search for flops"):
        search_cost(written(tmp_path, "SEARCH.METHOD", "differentiable"))
