"""Short trainings of the most promising architectures have the last word."""

from __future__ import annotations

import json

import pytest
import torch
from shades import CLASSES, SIDE, SPACE, make_cfg, saved

from fpnas.engine import Interrupted
from fpnas.errors import ConfigError
from fpnas.search import ArchitectureSearcher, SearchResult
from fpnas.search.finalists import promising
from fpnas.search.run import run_search
from fpnas.training import load_trained
from fpnas.training.trainer import ClassificationTrainer


def three(folder, **overrides):
    """A search from weights that know the classes, with three finalists in two rounds."""
    keys = {"SEARCH__FINALISTS": 3, "SEARCH__FINALIST_EPOCHS": 1, "SEARCH__FLOOR": 0.5}
    keys |= {"DATA__NUM_WORKERS": 0, **overrides}
    return make_cfg(folder, saved(folder, CLASSES), **keys)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finalists")
    (result,) = run_search(three(folder))
    return folder / "search", result


def test_the_better_half_goes_on_and_the_best_wins(finished):
    folder, result = finished
    rounds = sorted(len(f.losses) for f in result.finalists)
    assert rounds == [1, 2, 2]
    worst = max(result.finalists, key=lambda f: f.losses[0])
    assert len(worst.losses) == 1
    winner = min((f for f in result.finalists if len(f.losses) == 2), key=lambda f: f.losses[1])
    assert torch.equal(winner.choices, result.choices) and winner.cost == result.cost
    assert all(0.5 * result.target <= f.cost <= result.target for f in result.finalists)
    network = load_trained(folder / "network.pth").model
    assert network.arch.flops(SIDE) == result.cost
    number = [torch.equal(f.choices, winner.choices) for f in result.finalists].index(True)
    trained = load_trained(folder / "finalists" / str(number) / "model_final.pth").model
    assert all(
        torch.equal(trained.state_dict()[name], value)
        for name, value in network.state_dict().items()
    )


def test_file_and_report_have_them(finished):
    folder, result = finished
    loaded = SearchResult.load(folder / "search_result.pth", SPACE)
    assert [f.losses for f in loaded.finalists] == [f.losses for f in result.finalists]
    for found, expected in zip(loaded.finalists, result.finalists, strict=True):
        assert torch.equal(found.choices, expected.choices) and found.cost == expected.cost
    assert "Finalists" in (folder / "report.html").read_text()
    assert "losses" in (folder / "search_result.yaml").read_text()


def test_resumed_among_finalists_it_ends_with_the_same_bits(finished, tmp_path, monkeypatch):
    """Stopped in the second round."""
    calls = iter(range(10**6))
    run_step = ClassificationTrainer.run_step

    def stopped(self):
        if next(calls) == 13:
            raise Interrupted(2, "stopped by the test")
        run_step(self)

    with monkeypatch.context() as patch:
        patch.setattr(ClassificationTrainer, "run_step", stopped)
        with pytest.raises(Interrupted):
            run_search(three(tmp_path))
    (result,) = run_search(three(tmp_path), resume=True)
    assert [f.losses for f in result.finalists] == [f.losses for f in finished[1].finalists]
    weights = [
        torch.load(folder / "network.pth", weights_only=True)["model"]
        for folder in (tmp_path / "search", finished[0])
    ]
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())


def test_fresh_weights(tmp_path):
    (result,) = run_search(three(tmp_path, SEARCH__FINALIST_WEIGHTS="fresh", SEARCH__FINALISTS=2))
    assert [len(f.losses) for f in result.finalists] == [1, 1]
    config = (tmp_path / "search" / "finalists" / "1" / "config.yaml").read_text()
    assert "WEIGHTS: ''" in config and "1-start.yaml" in config


def test_promising_ones_are_within_budget_and_differ():
    target = 0.6 * SPACE.cost_range()[1]
    searcher = ArchitectureSearcher(SPACE, SPACE.flops, target, floor=0.5, distribution="joint")
    best = searcher.within_budget().choices
    chosen = promising(searcher, best, 5)
    assert torch.equal(chosen[0], best) and len(chosen.unique(dim=0)) == len(chosen) == 5
    costs = SPACE.flops(chosen)
    assert costs.le(target).all() and costs.ge(0.5 * target).all()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"SEARCH__FINALISTS": 1}, "SEARCH.FINALISTS is 1; valid: 0, or at least 2"),
        ({"SEARCH__FINALIST_EPOCHS": 0}, "SEARCH.FINALIST_EPOCHS"),
        ({"SEARCH__FINALIST_WEIGHTS": "old"}, "SEARCH.FINALIST_WEIGHTS"),
    ],
)
def test_errors(tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        run_search(three(tmp_path, **overrides))


def test_losses_are_kept_in_a_readable_file(finished):
    kept = json.loads((finished[0] / "finalists" / "0.json").read_text())
    assert kept["losses"] == list(finished[1].finalists[0].losses)
