"""Ask and tell: the number of samples, redraws, scalars, and bit-exact resumption."""

from __future__ import annotations

import copy
import io
import math

import pytest
import torch
from search_cases import SPACE

from fpnas.errors import BudgetError, CheckpointError, UnknownNameError, UserError
from fpnas.search import (
    AdaptiveSampling,
    ArchitectureSearcher,
    Estimator,
    FixedSampling,
    JointDistribution,
)
from fpnas.spaces.space import SearchSpace

TARGET = 5.0


def cost(choices):
    return choices.sum(dim=1) + 1


def rate(choices):
    """Large architectures are likely, in contest with the budget."""
    return choices.double().sum(dim=1)


def searcher(**options) -> ArchitectureSearcher:
    options = {"sampling": AdaptiveSampling(2.0), "lr": 0.05, **options}
    return ArchitectureSearcher(SPACE, cost, TARGET, **options)


def steps(search: ArchitectureSearcher, n: int) -> None:
    for _ in range(n):
        choices = search.ask()
        search.tell(choices, rate(choices))


@pytest.mark.parametrize(("estimator", "least"), [("paper", 1), ("budgeted", 2)])
@pytest.mark.parametrize("distribution", ["joint", "factorized"])
def test_every_step_draws_by_the_entropy(estimator, least, distribution):
    search = searcher(estimator=estimator, distribution=distribution)
    steps(search, 150)
    history = search.history
    assert history["num_samples"][0] == math.floor(2.0 * math.log(SPACE.num_architectures))
    for entropy, samples in zip(history["entropy"], history["num_samples"], strict=True):
        assert samples == max(least, math.floor(2.0 * entropy + 1e-9))
    assert history["entropy"][-1] < history["entropy"][0]
    assert search.iteration == 150


def test_budgeted_draws_at_least_two():
    search = searcher(estimator="budgeted", sampling=FixedSampling(1))
    assert len(search.ask()) == 2


def test_paper_never_redraws_and_budgeted_evaluates_within_budget():
    paper, budgeted = searcher(estimator="paper"), searcher(estimator="budgeted")
    steps(paper, 10)
    steps(budgeted, 10)
    assert sum(paper.history["redraws"]) == 0 < sum(paper.history["over_target"])
    assert sum(budgeted.history["redraws"]) > 0 == sum(budgeted.history["over_target"])


def test_the_penalty_holds_budgeted_where_redraws_no_longer_help():
    """Nothing else keeps a likelihood that grows with the cost from leaving the budget."""

    def final_cost(beta):
        search = searcher(estimator="budgeted", beta=beta)
        steps(search, 400)
        return search.history["expected_cost"][-1]

    assert final_cost(beta=1.0) < final_cost(beta=0.0)


def test_redraws_are_bounded():
    search = searcher(estimator=Estimator("once", max_redraws=1), sampling=FixedSampling(200))
    choices = search.ask()
    scalars = search.tell(choices, rate(choices))
    over_first = scalars["redraws"]
    # Of the share that is over the target, the same share again is over it after one redraw.
    share = over_first / 200
    assert 0 < scalars["over_target"] < over_first
    assert scalars["over_target"] / 200 == pytest.approx(share**2, abs=0.1)
    assert scalars["over_target"] == int((cost(choices) > TARGET).sum())


def test_scalars_describe_the_distribution_that_was_drawn_from():
    search = searcher(estimator="paper", sampling=FixedSampling(64))
    before = float(search.distribution.entropy())
    mode = search.distribution.mode()
    choices = search.ask()
    scalars = search.tell(choices, rate(choices))
    assert scalars == {
        "entropy": before,
        "num_samples": 64,
        "expected_cost": float(cost(choices).double().mean()),
        "mode_cost": float(cost(mode[None])[0]),
        "redraws": 0,
        "sampled_cost": float(cost(choices).double().mean()),
        "over_target": int((cost(choices) > TARGET).sum()),
        "log_likelihood": float(rate(choices).mean()),
    }
    assert {name: values[-1] for name, values in search.history.items()} == scalars


def test_first_step_of_adam_moves_alpha_by_the_learning_rate_against_equation_7():
    search = searcher(estimator="paper", lr=0.016)
    choices = search.ask()
    search.tell(choices, rate(choices))
    gradient = search.distribution.logits.grad
    moved = search.distribution.logits.detach()
    active = gradient.abs() > 1e-3
    torch.testing.assert_close(moved[active], -0.016 * gradient[active].sign(), rtol=1e-4, atol=0)


def test_conversion_keeps_the_distribution_and_renews_the_optimizer():
    search = searcher(distribution="factorized")
    steps(search, 30)
    before = search.distribution
    search.convert_to_joint()
    joint = search.distribution
    assert isinstance(joint, JointDistribution)
    assert float(joint.entropy()) == pytest.approx(float(before.entropy()), abs=1e-12)
    assert not search.state_dict()["optimizer"]["state"]
    search.convert_to_joint()
    assert search.distribution is joint
    steps(search, 5)
    assert search.iteration == 35


@pytest.mark.parametrize("estimator", ["paper", "budgeted"])
@pytest.mark.parametrize("convert_at", [10, 30])
def test_resumption_is_bit_exact(estimator, convert_at):
    def advance(search, start, stop):
        for i in range(start, stop):
            if i == convert_at:
                search.convert_to_joint()
            steps(search, 1)

    whole = searcher(estimator=estimator, seed=3)
    advance(whole, 0, 50)
    first = searcher(estimator=estimator, seed=3)
    advance(first, 0, 20)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = searcher(estimator=estimator, seed=99)
    second.load_state_dict(torch.load(file, weights_only=True))
    advance(second, 20, 50)
    assert torch.equal(second.distribution.logits, whole.distribution.logits)
    assert second.history == whole.history
    assert torch.equal(second.ask(), whole.ask())


class _Counting(Estimator):
    """Draws and learns in a way of its own, and remembers how often each value did well."""

    def __init__(self) -> None:
        super().__init__("counting")
        self.wins = torch.zeros(len(SPACE.variables), max(SPACE.cardinalities))

    def draw(self, searcher, num_samples):
        return searcher.space.sample(num_samples, searcher.generator)

    def learn(self, searcher, choices, log_likelihoods, hinge):
        best = choices[(log_likelihoods - hinge).argmax()]
        self.wins[torch.arange(len(best)), best] += 1
        searcher.distribution.logits.data.copy_(self.wins)

    def state_dict(self):
        return {"wins": self.wins}

    def load_state_dict(self, state):
        self.wins = state["wins"]


def test_an_estimator_of_another_kind_keeps_a_state_for_each_search():
    estimator = _Counting()
    whole, other = searcher(estimator=estimator), searcher(estimator=estimator, seed=1)
    for search in (whole, other):
        steps(search, 6)
    assert (whole.estimator.wins.sum(dim=1) == 6).all() and not estimator.wins.any()
    assert torch.equal(whole.distribution.logits, whole.estimator.wins.double())
    first = searcher(estimator=estimator)
    steps(first, 2)
    second = searcher(estimator=estimator, seed=99)
    second.load_state_dict(first.state_dict())
    for search in (first, second):
        steps(search, 4)
        assert torch.equal(search.estimator.wins, whole.estimator.wins)
        assert search.history == whole.history


def test_resumption_between_ask_and_tell():
    first = searcher()
    choices = first.ask()
    second = searcher()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert first.tell(choices, rate(choices)) == second.tell(choices, rate(choices))
    assert torch.equal(first.distribution.logits, second.distribution.logits)


def test_a_state_is_a_snapshot():
    search = searcher()
    steps(search, 3)
    state = search.state_dict()
    saved = copy.deepcopy(state)
    steps(search, 3)
    assert torch.equal(state["logits"], saved["logits"])
    assert state["history"] == saved["history"]
    assert torch.equal(
        state["optimizer"]["state"][0]["exp_avg"], saved["optimizer"]["state"][0]["exp_avg"]
    )


def test_a_discarded_step_leaves_alpha_alone():
    search = searcher()
    assert len(search.ask(num_samples=1)) == 1
    scalars = search.discard()
    assert scalars["num_samples"] == 1 and "log_likelihood" not in scalars
    assert search.iteration == 0
    assert (search.distribution.logits == 0).all()
    with pytest.raises(UserError, match="follows an ask"):
        search.discard()


def test_same_seed_same_search():
    first, second, other = searcher(seed=1), searcher(seed=1), searcher(seed=2)
    for search in (first, second, other):
        steps(search, 10)
    assert first.history == second.history
    assert first.history != other.history


def test_tell_takes_what_was_asked_for():
    search = searcher()
    with pytest.raises(UserError, match="last ask"):
        search.tell(SPACE.sample(3), torch.zeros(3))
    choices = search.ask()
    with pytest.raises(UserError, match="last ask"):
        search.tell(choices.flip(1), rate(choices))
    with pytest.raises(UserError, match="each of"):
        search.tell(choices, rate(choices)[1:])
    with pytest.raises(UserError, match="is nan"):
        search.tell(choices, rate(choices) * math.nan)
    assert (search.distribution.logits == 0).all()
    search.tell(choices, rate(choices))


def test_result_is_within_budget_and_says_so(caplog):
    search = searcher(estimator=Estimator("no penalty"), beta=0.0)
    steps(search, 100)
    assert search.history["mode_cost"][-1] > TARGET  # the likelihood favours large architectures
    result = search.result(top_m=3)
    assert result.cost <= TARGET and result.proven
    assert result.candidates[0].cost > TARGET and len(result.candidates) == 3
    assert "over the target" in caplog.text
    logits = result.distribution.logits.clone()
    steps(search, 1)
    assert torch.equal(result.distribution.logits, logits)


def test_a_floor_draws_and_returns_what_uses_the_budget():
    plain, floored = searcher(estimator="budgeted"), searcher(estimator="budgeted", floor=0.8)
    drawn = [cost(search.ask(200)) for search in (plain, floored)]
    assert (drawn[0] < 0.8 * TARGET).float().mean() > 0.2
    assert (drawn[1] < 0.8 * TARGET).float().mean() < 0.02 and (drawn[1] <= TARGET).all()
    floored.discard()
    steps(floored, 20)
    assert 0.8 * TARGET <= floored.result().cost <= TARGET


def test_an_empty_band_is_refused_before_the_search():
    with pytest.raises(BudgetError, match="of at least 9.9"):
        ArchitectureSearcher(SPACE, lambda c: 3.0 * cost(c), 10.0, floor=0.99)
    for floor in (-0.1, 1.0):
        with pytest.raises(UserError, match="floor is a share"):
            searcher(floor=floor)
    with pytest.raises(UserError, match="floor is a share"):
        ArchitectureSearcher(SPACE, cost, floor=0.5)


def test_without_cost_the_mode_is_returned():
    search = ArchitectureSearcher(SPACE, lr=0.05)
    steps(search, 30)
    result = search.result()
    assert torch.equal(result.choices, search.distribution.mode())
    assert result.target == math.inf


def test_a_foreign_state_is_refused():
    other = ArchitectureSearcher(SearchSpace.from_variables("other", [[[0, 1]]]))
    with pytest.raises(CheckpointError, match="space 'small'"):
        searcher().load_state_dict(other.state_dict())


def test_unusable_arguments():
    with pytest.raises(UnknownNameError, match=r"Did you mean 'budgeted'\?.*paper, budgeted"):
        searcher(estimator="budget")
    with pytest.raises(UnknownNameError, match=r"Did you mean 'joint'\?"):
        searcher(distribution="joints")
    with pytest.raises(UserError, match="lr > 0"):
        searcher(lr=0.0)
    with pytest.raises(UserError, match="needs a cost"):
        ArchitectureSearcher(SPACE, target=3.0)
    with pytest.raises(BudgetError, match="range from 1 to 10"):
        ArchitectureSearcher(SPACE, cost, 0.5)
