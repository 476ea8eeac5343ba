"""The step of a supernet search: what it draws, updates, logs and leaves alone."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from toy_supernet import SPACE, Batches

from fpnas.errors import DivergedError, UserError
from fpnas.modeling import SearchedNet, SuperNet
from fpnas.search import AdaptiveSampling, ArchitectureSearcher, FixedSampling
from fpnas.search.methods import Sample, SearchTrainer
from fpnas.solver import SharedSGD
from fpnas.solver.loss import distillation_loss

THREE_SAMPLES = FixedSampling(3)


def make_trainer(
    *,
    sampling: AdaptiveSampling | FixedSampling = THREE_SAMPLES,
    estimator: str = "paper",
    warmup: int = 2,
    joint: int | None = None,
    bad_from: int = 10**9,
    clip: float = 0.0,
    warmup_samples: int | None = None,
    targets: tuple[float, ...] = (60_000,),
    teacher: SearchedNet | None = None,
    distill_weight: float = 0.5,
    temperature: float = 1.0,
    rating_share: float = 0.0,
) -> SearchTrainer:
    torch.manual_seed(0)
    supernet = SuperNet(SPACE)
    return SearchTrainer(
        supernet,
        SharedSGD(supernet.store, lr=0.05, momentum=0.9, weight_decay=1e-3),
        [
            ArchitectureSearcher(
                SPACE, SPACE.flops, target, estimator=estimator, sampling=sampling, lr=0.05
            )
            for target in targets
        ],
        Batches(1, bad_from),
        Batches(2),
        warmup_iterations=warmup,
        joint_iteration=joint,
        likelihood_scale=20.0,
        warmup_samples=warmup_samples,
        clip_grad_norm=clip,
        teacher=teacher,
        distill_weight=distill_weight,
        temperature=temperature,
        rating_share=rating_share,
    )


def logged(trainer: SearchTrainer, steps: int) -> list[dict[str, float]]:
    """The scalars of each step."""
    rows: list[dict[str, float]] = []
    run_step = trainer.run_step

    def recording_step() -> None:
        run_step()
        rows.append({name: value for name, (value, _) in trainer.storage.latest().items()})

    trainer.run_step = recording_step
    trainer.train(0, steps)
    return rows


def test_warmup_learns_weights_and_leaves_the_distribution_uniform() -> None:
    trainer = make_trainer(warmup=5)
    before = {name: w.detach().clone() for name, w in trainer.supernet.store.named_weights()}
    logged(trainer, 5)
    after = dict(trainer.supernet.store.named_weights())
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert torch.count_nonzero(trainer.searchers[0].distribution.logits) == 0
    assert trainer.searchers[0].history == {}


def test_number_of_samples_in_the_warmup() -> None:
    rows = logged(make_trainer(warmup=2, warmup_samples=1), 4)
    usual = logged(make_trainer(warmup=2), 4)
    assert [row["num_samples"] for row in rows[:2]] == [1, 1]
    assert [row["num_samples"] for row in rows[2:]] == [row["num_samples"] for row in usual[2:]]
    assert rows[2]["num_samples"] > 1


def test_after_the_warmup_the_distribution_moves_and_every_step_is_logged() -> None:
    rows = logged(make_trainer(warmup=2), 6)
    uniform = rows[0]["entropy"]
    assert [row["entropy"] == uniform for row in rows[:3]] == [True] * 3  # state before the update
    assert rows[5]["entropy"] != uniform
    for row in rows:
        assert {"loss", "num_samples", "expected_cost", "mode_cost", "data_time"} <= set(row)
    assert "val_loss" not in rows[1]
    assert "val_loss" in rows[2]


def test_number_of_samples_follows_the_entropy_in_every_step() -> None:
    for row in logged(make_trainer(sampling=AdaptiveSampling(1.4)), 8):
        assert row["num_samples"] == max(1, int(1.4 * row["entropy"] + 1e-9))


def test_weights_follow_the_mean_gradient_of_the_samples() -> None:
    trainer = make_trainer()
    choices = torch.tensor([[1, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 1]])
    batch = next(Batches(1).iterate())
    networks = [trainer.supernet.extract(row) for row in choices]
    losses = [F.cross_entropy(network(batch[0]), batch[1]) for network in networks]
    for loss in losses:
        (loss / 3).backward()
    expected = sum(n.head.fc.weight.grad for n in networks)
    decay = 1e-3 * networks[0].head.fc.weight.detach()
    weight = networks[0].head.fc.weight.detach() - 0.05 * (expected + decay)

    bound = [trainer.supernet.bind(row) for row in choices]
    mean_loss = trainer._update_weights(Sample(choices, bound), batch)

    torch.testing.assert_close(mean_loss, torch.stack(losses).mean().detach())
    updated = trainer.supernet.extract(choices[0]).head.fc.weight
    torch.testing.assert_close(updated.detach(), weight)


def test_a_teacher_is_learned_from_beside_the_labels() -> None:
    """With weight w the gradient is (1 - w) of the labels' and w of the teacher's."""
    teacher = make_trainer().supernet.extract(torch.tensor([1, 0, 1, 1]))
    choices = torch.tensor([[0, 1, 0, 0]])
    batch = next(Batches(1).iterate())
    gradients = {}
    for weight in (0.0, 0.25, 1.0):
        trainer = make_trainer(teacher=teacher, distill_weight=weight, temperature=2.0)
        network = trainer.supernet.bind(choices[0])
        trainer._backward(Sample(choices, [network]), batch)
        gradients[weight] = network.head.fc.weight.grad.clone()
    mixed = 0.75 * gradients[0.0] + 0.25 * gradients[1.0]
    torch.testing.assert_close(gradients[0.25], mixed)
    trainer = make_trainer()
    network = trainer.supernet.bind(choices[0])
    trainer._backward(Sample(choices, [network]), batch)
    torch.testing.assert_close(gradients[0.0], network.head.fc.weight.grad)
    logits = network(batch[0])
    taught = distillation_loss(logits, teacher.eval()(batch[0]).detach(), 2.0)
    (expected,) = torch.autograd.grad(taught, network.head.fc.weight)
    torch.testing.assert_close(gradients[1.0], expected)


def test_likelihoods_leave_no_gradient_and_use_batch_statistics() -> None:
    trainer = make_trainer()
    choices = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]])
    images, labels = next(Batches(2).iterate())
    expected = []
    for row in choices:
        network = trainer.supernet.extract(row).train()
        expected.append(-20.0 * F.cross_entropy(network(images), labels).detach())
    bound = [trainer.supernet.bind(row) for row in choices]
    trainer.supernet.store.clear_gradients()  # as after the update of the weights
    found = trainer._log_likelihoods(bound, (images, labels))
    torch.testing.assert_close(found, torch.stack(expected))
    assert trainer.supernet.store.touched() == []


def test_gradient_norm_is_clipped() -> None:
    trainer = make_trainer(clip=1e-3)
    before = {name: w.detach().clone() for name, w in trainer.supernet.store.named_weights()}
    for group in trainer.optimizer.param_groups:
        group["weight_decay"] = 0.0
    choices = torch.tensor([[1, 1, 1, 1]])
    sample = Sample(choices, [trainer.supernet.bind(choices[0])])
    trainer._update_weights(sample, next(Batches(1).iterate()))
    moved = torch.cat(
        [(w.detach() - before[n]).flatten() for n, w in trainer.supernet.store.named_weights()]
    )
    assert float(moved.norm()) == pytest.approx(0.05 * 1e-3, rel=1e-2)


def test_mixed_search_turns_joint_at_its_iteration_without_a_jump() -> None:
    trainer = make_trainer(warmup=1, joint=4)
    rows = logged(trainer, 4)
    assert type(trainer.searchers[0].distribution).__name__ == "FactorizedDistribution"
    entropy = float(trainer.searchers[0].distribution.entropy())
    trainer.train(4, 5)
    assert type(trainer.searchers[0].distribution).__name__ == "JointDistribution"
    assert trainer.storage.latest()["entropy"][0] == pytest.approx(entropy, abs=1e-12)
    assert rows[3]["entropy"] != entropy


def test_nan_stops_before_the_update() -> None:
    trainer = make_trainer(bad_from=3)
    with pytest.raises(DivergedError, match="iteration 3"):
        trainer.train(0, 6)
    weights = dict(trainer.supernet.store.named_weights())
    assert all(torch.isfinite(weight).all() for weight in weights.values())
    assert len(trainer.searchers[0].history["entropy"]) == 1


@pytest.mark.parametrize(
    ("stop", "share"), [(1, 0.0), (3, 0.0), (5, 0.0), (3, 0.6), (4, 0.6), (5, 0.6), (6, 0.6)]
)
def test_resumed_search_ends_with_the_same_bits(stop: int, share: float) -> None:
    whole = make_trainer(joint=4, estimator="budgeted", rating_share=share)
    whole.train(0, 7)

    first = make_trainer(joint=4, estimator="budgeted", rating_share=share)
    first.train(0, stop)
    second = make_trainer(joint=4, estimator="budgeted", rating_share=share)
    second.supernet.load_state_dict(first.supernet.state_dict())
    second.load_state_dict(first.state_dict())
    second.train(second.steps_done, 7)

    assert torch.equal(
        whole.searchers[0].distribution.logits, second.searchers[0].distribution.logits
    )
    assert whole.searchers[0].history == second.searchers[0].history
    resumed = second.supernet.state_dict()
    for name, value in whole.supernet.state_dict().items():
        assert torch.equal(value, resumed[name]), name


def test_several_targets_take_the_steps_in_turn() -> None:
    trainer = make_trainer(estimator="budgeted", targets=(50_000, 80_000), warmup=2)
    rows = logged(trainer, 8)
    assert [row["target"] for row in rows] == [50_000, 80_000] * 4
    small, large = trainer.searchers
    assert len(small.history["entropy"]) == len(large.history["entropy"]) == 3
    assert not torch.equal(small.distribution.logits, large.distribution.logits)
    assert small.result().cost <= 50_000
    assert large.result().cost <= 80_000


def weights_of(trainer: SearchTrainer) -> dict[str, torch.Tensor]:
    return {name: w.detach().clone() for name, w in trainer.supernet.store.named_weights()}


def test_steps_that_rate_leave_the_weights_and_take_no_training_batch() -> None:
    trainer = make_trainer(warmup=2, rating_share=1.0, bad_from=2, estimator="budgeted")
    trainer.train(0, 2)
    before = weights_of(trainer)
    momenta = [s["momentum_buffer"].clone() for s in trainer.optimizer.state.values()]
    trainer.train(2, 8)  # batch 2 of the training half, and all later ones, would be NaN
    assert all(torch.equal(w, before[n]) for n, w in trainer.supernet.store.named_weights())
    states = trainer.optimizer.state.values()
    assert all(torch.equal(s["momentum_buffer"], m) for s, m in zip(states, momenta, strict=True))
    assert trainer.supernet.store.touched() == []
    assert all(p.grad is None for p in trainer.supernet.parameters())
    assert len(trainer.searchers[0].history["entropy"]) == 6
    assert trainer.searchers[0].distribution.logits.any()


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.0, "........"),
        (0.25, ".....r.."),
        (0.5, "...r.r.r"),
        (0.6, "...r.rr."),
        (1.0, "..rrrrrr"),
    ],
)
def test_rating_steps_are_spread_evenly(share: float, expected: str) -> None:
    trainer = make_trainer(warmup=2, rating_share=share)
    rows = logged(trainer, 8)
    # What was put before stands in the latest scalars: a loss is new if it differs.
    losses = [row["loss"] for row in rows]
    kinds = ["." if i == 0 or loss != losses[i - 1] else "r" for i, loss in enumerate(losses)]
    assert "".join(kinds) == expected
    put = trainer.storage.history("loss").values()
    assert [iteration for _, iteration in put] == [i for i, k in enumerate(expected) if k == "."]
    assert len(trainer.storage.history("val_loss").values()) == 6


def test_every_budget_has_its_share_of_the_rating_steps() -> None:
    trainer = make_trainer(warmup=1, rating_share=0.5, targets=(50_000, 80_000))
    trainer.train(0, 9)
    trained = [iteration for _, iteration in trainer.storage.history("loss").values()]
    assert trained == [0, 1, 2, 5, 6]  # whole rounds of turns


def test_the_learning_rate_ends_with_the_last_update_of_the_weights() -> None:
    progress = {}
    for share in (0.0, 0.5, 1.0):
        trainer = make_trainer(warmup=4, rating_share=share)
        trainer.max_iter = 8
        progress[share] = []
        for trainer.iter in range(8):
            progress[share].append(trainer.progress)
    assert progress[0.0] == [i / 8 for i in range(8)]
    assert progress[0.5] == [i / 6 for i in (0, 1, 2, 3, 4, 5, 5, 5)]
    assert progress[1.0] == [i / 4 for i in (0, 1, 2, 3, 3, 3, 3, 3)]


def test_a_share_is_one() -> None:
    with pytest.raises(UserError, match="rating_share is a share, 0 to 1; found 1.5"):
        make_trainer(rating_share=1.5)
