"""Files that an earlier version wrote still load, and its interrupted runs go on."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from runs import WRITTEN, search_cfg, training_cfg

from fpnas.archs import Architecture
from fpnas.search import SearchResult
from fpnas.search.run import run_search
from fpnas.training import load_trained, run_training


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A copy that may be written to."""
    return Path(shutil.copytree(WRITTEN, tmp_path / "written"))


def test_a_search_result_and_its_network() -> None:
    result = SearchResult.load(WRITTEN / "search" / "search_result.pth")
    assert result.space.name == "compat"
    assert result.cost <= result.target == 1e5
    assert math.isfinite(result.log_prob)
    network = load_trained(WRITTEN / "search" / "network.pth")
    found = Architecture.load(WRITTEN / "search" / "architecture.yaml")
    assert network.description.classes == ("dark", "grey", "light")
    assert found.flops() == result.cost
    assert network.model(torch.zeros(1, 3, 8, 8)).shape == (1, 3)


def test_an_interrupted_search_goes_on(written: Path) -> None:
    [result] = run_search(search_cfg(written / "search"), resume=True)
    log = (written / "search" / "log.txt").read_text()
    assert "Starting at iteration 6 of 8" in log
    earlier = SearchResult.load(WRITTEN / "search" / "search_result.pth")
    # The same bits on the machine that wrote them; on another, sums may be ordered differently.
    for name, values in earlier.history.items():
        assert result.history[name] == pytest.approx(values, rel=0.05), name
    assert torch.equal(result.choices, earlier.choices)


def test_an_interrupted_training_goes_on(written: Path) -> None:
    result = run_training(training_cfg(written / "training"), resume=True)
    assert "Starting at iteration 8 of 12" in (written / "training" / "log.txt").read_text()
    assert result["top1"] == pytest.approx(64.58, abs=5)  # as the uninterrupted one
