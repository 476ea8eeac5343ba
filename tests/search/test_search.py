"""search() on an evaluator that knows no network, and the result's files."""

from __future__ import annotations

import math

import pytest
import torch
import yaml
from search_cases import SPACE, all_choices

from fpnas.errors import BudgetError, CheckpointError, UserError
from fpnas.search import FactorizedDistribution, JointDistribution, SearchResult, search
from fpnas.spaces.space import SearchSpace

TARGET = 6.0


def cost(choices):
    return choices.sum(dim=1) + 1


def quality(choices):
    """Better when larger, and some choices go well together."""
    return choices.double().sum(dim=1) * 0.5 + 2.0 * (choices[:, 0] == choices[:, 5])


def run(**options) -> SearchResult:
    return search(SPACE, quality, cost, TARGET, **{"iterations": 400, "lr": 0.03, **options})


@pytest.mark.parametrize("distribution", ["joint", "factorized", "mixed"])
def test_finds_a_good_architecture_within_budget(distribution):
    result = run(distribution=distribution)
    everything = all_choices(SPACE)
    affordable = quality(everything[cost(everything) <= TARGET])
    assert result.cost <= TARGET
    better = int((affordable > quality(result.choices[None])).sum())
    assert better <= len(affordable) // 20
    assert result.num_samples == sum(result.history["num_samples"])
    kind = FactorizedDistribution if distribution == "factorized" else JointDistribution
    assert type(result.distribution) is kind


def test_paper_estimator_finds_the_likely_without_budget():
    result = search(SPACE, quality, estimator="paper", iterations=800, lr=0.03)
    everything = all_choices(SPACE)
    assert float(quality(result.choices[None])) >= float(quality(everything).quantile(0.9))


def test_the_readme_search_fits_into_20_lines():
    space = SearchSpace.from_variables("widths", [[[8, 16, 32]]] * 6)
    widths = torch.tensor([8, 16, 32])

    def evaluate(choices):
        return -(widths[choices].double() - 20).square().sum(dim=1) / 100

    def parameters(choices):
        return widths[choices].sum(dim=1)

    result = search(space, evaluate, parameters, target=100, iterations=300, lr=0.03)
    assert space.decode(result.choices) == [{"variable0": 16}] * 6


def test_seed_decides():
    first, second, other = run(seed=1), run(seed=1), run(seed=2)
    assert torch.equal(first.distribution.logits, second.distribution.logits)
    assert not torch.equal(first.distribution.logits, other.distribution.logits)


def test_likelihood_scale_multiplies():
    doubled = search(SPACE, lambda c: 2 * quality(c), cost, TARGET, iterations=20)
    scaled = run(iterations=20, lr=0.016, likelihood_scale=2.0)
    assert torch.equal(doubled.distribution.logits, scaled.distribution.logits)


def test_mixed_switches_at_the_joint_iteration():
    entropies = []
    whole = run(joint_iteration=7, iterations=12, callback=lambda i, s: entropies.append((i, s)))
    assert [i for i, _ in entropies] == list(range(12))
    assert [s["entropy"] for _, s in entropies] == whole.history["entropy"]
    never = run(joint_iteration=100, iterations=12)
    assert type(never.distribution) is FactorizedDistribution
    assert never.history["entropy"][:8] == pytest.approx(whole.history["entropy"][:8], abs=1e-12)
    assert never.history["entropy"][8:] != whole.history["entropy"][8:]


def test_evaluators_may_return_lists_and_fail():
    def evaluate(choices):
        return [-math.inf if row[0] == 0 else 0.0 for row in choices.tolist()]

    result = search(SPACE, evaluate, iterations=200, lr=0.05)
    assert int(result.choices[0]) != 0


def test_result_survives_saving(tmp_path):
    result = run(iterations=60)
    path = tmp_path / "new folder" / "result.pth"
    result.save(path)
    loaded = SearchResult.load(path)
    assert torch.equal(loaded.choices, result.choices)
    assert torch.equal(loaded.distribution.logits, result.distribution.logits)
    assert loaded.history == result.history
    assert loaded.summary() == result.summary()
    for one, two in zip(loaded.distribution.top(9), result.distribution.top(9), strict=True):
        assert torch.equal(one, two)
    assert loaded.space.decode(loaded.choices) == SPACE.decode(result.choices)
    assert SearchResult.load(path, SPACE).space is SPACE
    assert sorted(p.name for p in path.parent.iterdir()) == ["result.pth", "result.yaml"]


def test_summary_is_plain_yaml_for_people(tmp_path):
    result = run(iterations=60)
    result.save(tmp_path / "result.pth")
    summary = yaml.safe_load((tmp_path / "result.yaml").read_text())
    assert summary["cost"] == result.cost <= summary["target"] == TARGET
    assert summary["choices"] == result.choices.tolist()
    assert list(summary["architecture"]) == [group.name for group in SPACE.groups]
    assert summary["samples"] == result.num_samples
    assert summary["most_probable_within_budget"] == "proven"
    assert len(summary["most_probable"]) == 5


def test_values_of_any_type_can_be_saved(tmp_path):
    space = SearchSpace.from_variables("any", [[[torch.nn.ReLU, torch.nn.SiLU], [(3, 1), None]]])
    search(space, lambda c: c.double()[:, 0], iterations=3).save(tmp_path / "any.pth")
    assert SearchResult.load(tmp_path / "any.pth").space.cardinalities == (2, 2)


def test_unreadable_results(tmp_path):
    result = run(iterations=5)
    path = tmp_path / "result.pth"
    result.save(path)
    with pytest.raises(CheckpointError, match="does not exist"):
        SearchResult.load(tmp_path / "missing.pth")
    other = SearchSpace.from_variables("other", [[[0, 1]]])
    with pytest.raises(CheckpointError, match=r"'small'.*not in.*'other'"):
        SearchResult.load(path, other)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match="damaged"):
        SearchResult.load(path)
    torch.save({"model": {"weight": torch.zeros(3)}}, path)
    with pytest.raises(CheckpointError, match="no search result"):
        SearchResult.load(path)


def test_unusable_arguments():
    with pytest.raises(UserError, match="at least 1 iteration"):
        run(iterations=0)
    with pytest.raises(UserError, match="positive"):
        run(likelihood_scale=0)
    with pytest.raises(UserError, match="belongs to distribution='mixed'"):
        run(distribution="joint", joint_iteration=3)
    with pytest.raises(UserError, match="each of"):
        search(SPACE, lambda choices: torch.zeros(1), cost, TARGET)
    with pytest.raises(BudgetError, match="range from"):
        search(SPACE, quality, cost, 0.5)
