"""The additive estimator: its posterior, its entropy, and searches with it."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from torch import Tensor

from fpnas.errors import CheckpointError, UserError
from fpnas.search import ArchitectureSearcher, FixedSampling, search
from fpnas.search.estimators import AdditiveEstimator
from fpnas.search.posterior import AdditivePosterior
from fpnas.spaces import SearchSpace, get_space

SIZES = (3, 2, 3, 2)
SPACE = SearchSpace.from_variables("small", [[list(range(n))] for n in SIZES])
PAIRS = list(combinations(range(len(SIZES)), 2))


def all_choices() -> Tensor:
    return torch.cartesian_prod(*map(torch.arange, SIZES))


def rated(posterior: AdditivePosterior, truth: Tensor, steps: int, noise: float = 0.3) -> None:
    """Tell of ``steps`` steps of six random architectures, ``truth`` [N] in all_choices' order."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(len(truth), (6,), generator=generator)
        error = noise * torch.randn(6, dtype=torch.float64, generator=generator)
        mean = 10 * torch.randn((), dtype=torch.float64, generator=generator)  # the step's own
        posterior.add(all_choices()[rows], truth[rows] + error + mean)


def main_effects() -> Tensor:
    """Sums of main effects, float64 [N]."""
    generator = torch.Generator().manual_seed(1)
    effects = [torch.randn(n, dtype=torch.float64, generator=generator) for n in SIZES]
    choices = all_choices()
    return sum(effect[choices[:, v]] for v, effect in enumerate(effects))


def test_the_posterior_mean_is_a_ridge_regression_on_centred_steps() -> None:
    posterior, truth = AdditivePosterior(SIZES, ()), main_effects()
    generator = torch.Generator().manual_seed(0)
    designs, targets = [], []
    for _ in range(5):
        rows = torch.randint(len(truth), (6,), generator=generator)
        choices = all_choices()[rows]
        posterior.add(choices, truth[rows])
        one_hot = torch.zeros(6, sum(SIZES), dtype=torch.float64)
        one_hot.scatter_(1, posterior.columns(choices), 1.0)
        designs.append(one_hot - one_hot.mean(0))
        targets.append(truth[rows] - truth[rows].mean())
    design, target = torch.cat(designs), torch.cat(targets)
    ridge = design.t() @ design + torch.eye(sum(SIZES), dtype=torch.float64) / 4.0
    assert torch.allclose(posterior.mean, torch.linalg.solve(ridge, design.t() @ target))


def test_evidence_of_a_pair_is_that_of_the_two_posteriors() -> None:
    posterior = AdditivePosterior(SIZES, PAIRS)
    rated(posterior, main_effects(), 8)
    for present in ((), (1,), (0, 2, 5)):
        fit = posterior._fit(present)
        for pair, gain in enumerate(posterior._gains(fit)):
            without, with_it = ({*present} - {pair}, {*present} | {pair})
            evidence = [
                posterior._fit(tuple(sorted(pairs))).log_evidence for pairs in (without, with_it)
            ]
            assert gain == pytest.approx(evidence[1] - evidence[0])


def test_pairs_come_forward_only_where_the_ratings_support_them() -> None:
    choices = all_choices()
    switch = torch.where(choices[:, 1] == 0, 1.0, -1.0) * (choices[:, 2] - 1.0)
    posterior = AdditivePosterior(SIZES, PAIRS)
    rated(posterior, main_effects() + 1.5 * switch.double(), 40)
    assert [PAIRS[p] for p in posterior._included] == [(1, 2)]
    others = [posterior._probabilities[p] for p, pair in enumerate(PAIRS) if pair != (1, 2)]
    assert max(others) < 0.3


def test_the_unit_of_the_ratings_does_not_matter() -> None:
    posteriors = [AdditivePosterior(SIZES, PAIRS) for _ in range(2)]
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    rated(posteriors[0], main_effects(), 6)
    rated(posteriors[1], 1000 * main_effects(), 6, noise=300.0)
    draws = [p.draw(5, g) for p, g in zip(posteriors, generators, strict=True)]
    assert torch.allclose(1000 * draws[0], draws[1], atol=1e-3)  # the steps' means are not scaled


def test_forgetting_lets_later_ratings_win() -> None:
    posterior = AdditivePosterior((2,), ())
    choices = torch.tensor([[0], [1]])
    for _ in range(20):
        posterior.add(choices, torch.tensor([1.0, 0.0], dtype=torch.float64), forgetting=0.7)
    for _ in range(5):
        posterior.add(choices, torch.tensor([0.0, 1.0], dtype=torch.float64), forgetting=0.7)
    assert posterior.mean[1] > posterior.mean[0]


def test_entropy_is_that_of_the_best_values_of_the_posterior() -> None:
    searcher = ArchitectureSearcher(SPACE, estimator="additive", sampling=FixedSampling(6))
    assert float(searcher.distribution.entropy()) == pytest.approx(sum(map(math.log, SIZES)))
    truth = dict(zip(map(tuple, all_choices().tolist()), main_effects().tolist(), strict=True))
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        choices = searcher.ask()
        values = torch.tensor([truth[tuple(row)] for row in choices.tolist()])
        searcher.tell(choices, values + 2 * torch.randn(len(choices), generator=generator))
    # By enumeration of many draws: how often each value of a variable is the best one.
    shares = searcher.estimator._posterior.best_values(20_000, torch.Generator().manual_seed(9))
    expected = sum(float(torch.special.entr(share).sum()) for share in shares)
    assert 0.2 < expected < sum(map(math.log, SIZES)) - 0.2
    assert float(searcher.distribution.entropy()) == pytest.approx(expected, abs=0.1)


def test_the_most_probable_architecture_is_the_best_by_the_mean() -> None:
    for distribution in ("factorized", "joint"):
        searcher = ArchitectureSearcher(
            SPACE, estimator=AdditiveEstimator(), distribution=distribution
        )
        choices = searcher.ask()
        searcher.tell(choices, main_effects()[:1] * 0 + choices.sum(1))
        posterior = searcher.estimator._posterior
        scores = posterior.mean[: sum(SIZES)][posterior.columns(all_choices())[:, : len(SIZES)]]
        best = scores.sum(1) == scores.sum(1).max()
        assert searcher.distribution.mode().tolist() in all_choices()[best].tolist()


def _interacting() -> tuple[SearchSpace, Tensor]:
    """Six variables in a ring, each of which turns its neighbour's effect around; and the truth."""
    space = SearchSpace.from_variables("ring", [[[0, 1, 2]]] * 6)
    choices = torch.cartesian_prod(*[torch.arange(3)] * 6)
    generator = torch.Generator().manual_seed(5)
    truth = torch.zeros(len(choices), dtype=torch.float64)
    for v in range(6):
        table = torch.randn(3, 3, dtype=torch.float64, generator=generator)
        truth += table[choices[:, v], choices[:, (v + 1) % 6]]
    return space, truth


def _regret(space: SearchSpace, truth: Tensor, estimator: object, seed: int) -> float:
    strides = torch.tensor([3 ** (5 - i) for i in range(6)])
    noise = torch.Generator().manual_seed(seed)

    def evaluate(choices: Tensor) -> Tensor:
        error = 2 * torch.randn(len(choices), dtype=torch.float64, generator=noise)
        return truth[(choices * strides).sum(1)] + error

    result = search(
        space,
        evaluate,
        estimator=estimator,
        sampling=FixedSampling(10),
        iterations=20,
        seed=seed,
        distribution="factorized",
    )
    return float(truth.max() - truth[(result.choices * strides).sum()])


class _MainEffectsOnly(AdditiveEstimator):
    """Blind to interactions."""

    def begin(self, search: ArchitectureSearcher) -> None:
        super().begin(search)
        self._posterior = AdditivePosterior(search.space.cardinalities, ())
        self._columns = self._posterior.columns(self._within)


def test_strong_interactions_are_found_where_main_effects_stall() -> None:
    space, truth = _interacting()
    blind = [_regret(space, truth, _MainEffectsOnly(), seed) for seed in range(5)]
    seeing = [_regret(space, truth, "additive", seed) for seed in range(5)]
    assert sum(seeing) / 5 < 0.5 * sum(blind) / 5
    assert sum(seeing) / 5 < 0.4 * float(truth.std())


@pytest.mark.parametrize("distribution", ["factorized", "joint"])
def test_a_search_of_a_large_space_stays_within_budget_and_resumes(distribution: str) -> None:
    space = get_space("FP-NAS-Micro")
    target = 2.5e6

    def make() -> ArchitectureSearcher:
        return ArchitectureSearcher(
            space,
            space.flops,
            target,
            estimator="additive",
            sampling=FixedSampling(4),
            distribution=distribution,
        )

    def step(searcher: ArchitectureSearcher) -> None:
        choices = searcher.ask()
        if searcher.iteration:  # at first they are drawn at random, as often as the rule allows
            assert (space.flops(choices) <= target).all()
        searcher.tell(choices, 0.1 * choices.double().sum(1))

    first = make()
    for _ in range(3):
        step(first)
    second = make()
    second.load_state_dict(first.state_dict())
    for searcher in (first, second):
        step(searcher)
    assert first.history == second.history
    results = [searcher.result() for searcher in (first, second)]
    assert torch.equal(results[0].choices, results[1].choices)
    assert results[0].cost <= target
    uniform = space.sample(200, torch.Generator().manual_seed(0))
    fitting = uniform[space.flops(uniform) <= target]
    assert results[0].choices.sum() > fitting.sum(1).double().mean()


def test_along_a_table_every_draw_is_in_a_band_that_uniform_samples_miss() -> None:
    space, target = get_space("FP-NAS-C10"), 3e6
    uniform = space.flops(space.sample(2000, torch.Generator().manual_seed(0)))
    assert ((uniform >= 0.95 * target) & (uniform <= target)).double().mean() < 0.01

    def make() -> ArchitectureSearcher:
        return ArchitectureSearcher(
            space,
            space.cost_table("flops"),
            target,
            floor=0.95,
            estimator="additive",
            sampling=FixedSampling(6),
        )

    def step(searcher: ArchitectureSearcher) -> None:
        choices = searcher.ask()
        costs = space.flops(choices)
        assert ((costs >= 0.95 * target) & (costs <= target)).all()
        searcher.tell(choices, 0.1 * choices.double().sum(1))

    first = make()
    warm = [first.ask(20) for _ in range(2)]  # those of a warm-up, which are not told
    assert not torch.equal(*warm)
    first.discard()
    step(first)
    step(first)
    second = make()
    second.load_state_dict(first.state_dict())
    for searcher in (first, second):
        step(searcher)
    assert first.history == second.history
    assert first.history["redraws"] == [0, 0, 0]
    result = first.result()
    assert result.proven and 0.95 * target <= result.cost <= target


def test_failed_evaluations_count_as_bad_ones() -> None:
    searcher = ArchitectureSearcher(SPACE, estimator="additive", sampling=FixedSampling(8))
    for _ in range(6):
        choices = searcher.ask()
        ratings = torch.where(choices[:, 0] == 0, -math.inf, 1.0 * choices[:, 2])
        searcher.tell(choices, ratings)
    assert searcher.result().choices[0] != 0


def test_a_state_without_ratings_and_a_bad_forgetting_are_refused() -> None:
    other = ArchitectureSearcher(SPACE, estimator="budgeted")
    searcher = ArchitectureSearcher(SPACE, estimator="additive")
    with pytest.raises(CheckpointError, match=r"SEARCH\.ESTIMATOR"):
        searcher.load_state_dict(other.state_dict())
    with pytest.raises(UserError, match="forgetting"):
        AdditiveEstimator(forgetting=0.0)


@pytest.mark.parametrize(("estimator", "within"), [("additive", True), ("budgeted", False)])
def test_what_is_preferred_keeps_to_the_budget_where_alpha_does_not_follow_it(
    estimator, within, caplog
) -> None:
    """Expensive values are the better ones."""
    cost = lambda choices: 1.0 + choices.sum(dim=1)  # noqa: E731
    searcher = ArchitectureSearcher(SPACE, cost, 4.0, estimator=estimator, lr=0.5)
    for _ in range(3):
        choices = searcher.ask()
        searcher.tell(choices, 20.0 * choices.sum(dim=1).double())
    with torch.no_grad():
        searcher.distribution.logits.copy_(torch.arange(3.0).expand(4, 3))
    assert (cost(searcher.favourite()[None]) <= 4.0).item() == within
    assert searcher.result().cost <= 4.0
    assert ("over the target" in caplog.text) != within
