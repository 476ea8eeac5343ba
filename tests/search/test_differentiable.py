"""The differentiable search: its relaxed samples, its step, its resumption, and a whole run."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from toy_supernet import SPACE, Batches

from fpnas.archs import Architecture
from fpnas.config import CfgNode, get_cfg
from fpnas.data import DATASET_REGISTRY, ImageSet, TensorImages
from fpnas.engine import HookBase, Interrupted
from fpnas.errors import ConfigError, DivergedError, UserError
from fpnas.modeling import SuperNet
from fpnas.modeling.masked_supernet import MaskedSuperNet
from fpnas.search import SearchResult
from fpnas.search import run as search_run
from fpnas.search.differentiable import DifferentiableTrainer, RelaxedSearcher
from fpnas.spaces import SPACE_REGISTRY
from fpnas.utils.checkpoint import load_weights

SIDE = 8
TARGET = 28_000  # uniformly drawn architectures cost 36,000 on average


def make_searcher(beta: float = 1.0, target: float = TARGET, seed: int = 0) -> RelaxedSearcher:
    return RelaxedSearcher(SPACE, SPACE.cost_table("flops"), target, beta=beta, lr=0.05, seed=seed)


def make_trainer(
    *,
    warmup: int = 2,
    iterations: int = 8,
    beta: float = 1.0,
    targets: tuple[float, ...] = (TARGET,),
    bad_from: int = 10**9,
) -> DifferentiableTrainer:
    torch.manual_seed(0)
    supernet = MaskedSuperNet(SPACE)
    return DifferentiableTrainer(
        supernet,
        torch.optim.SGD(supernet.parameters(), lr=0.05, momentum=0.9),
        [make_searcher(beta, target) for target in targets],
        Batches(1),
        Batches(2, bad_from),
        warmup_iterations=warmup,
        iterations=iterations,
        clip_grad_norm=5.0,
    )


def test_relaxed_samples_follow_the_distribution() -> None:
    """Gumbel-max: the largest entry is distributed as the variable."""
    searcher = make_searcher()
    with torch.no_grad():
        searcher.distribution.logits[0] = torch.tensor([0.0, 1.5])
    drawn = torch.stack([searcher.relax(1.0)[0] for _ in range(4000)])
    torch.testing.assert_close(drawn.sum(dim=1), torch.ones(4000, dtype=torch.float64))
    share = drawn.argmax(dim=1).double().mean()
    assert float(share) == pytest.approx(float(torch.tensor(1.5).sigmoid()), abs=0.03)


def test_temperature_decides_how_close_to_one_hot_a_sample_is() -> None:
    largest = {
        t: torch.stack([make_searcher(seed=s).relax(t)[0].max() for s in range(50)]).mean()
        for t in (0.05, 1.0, 50.0)
    }
    assert largest[0.05] > 0.95 > largest[1.0] > largest[50.0]
    assert largest[50.0].item() == pytest.approx(0.5, abs=0.03)


def test_step_follows_the_loss_and_the_hinge() -> None:
    """The first step of Adam is its learning rate times the sign of the gradient."""
    searcher = make_searcher(beta=0.0)
    weights = searcher.relax(1.0)
    searcher.learn(weights[0][1] - weights[3][0])  # less of kernel 3, more of 8 channels
    logits = searcher.distribution.logits.detach()
    assert torch.allclose(logits[0], torch.tensor([0.05, -0.05], dtype=torch.float64))
    assert torch.allclose(logits[3], torch.tensor([0.05, -0.05], dtype=torch.float64))
    assert torch.count_nonzero(logits[1:3]) == 0

    searcher = make_searcher(beta=1.0, target=20_000)
    before = searcher.expected_cost().item()
    scalars = searcher.learn(0.0 * searcher.relax(1.0)[0].sum())
    assert scalars["expected_cost"] == before > 20_000
    assert searcher.expected_cost().item() < before
    assert torch.all(searcher.distribution.logits[:, 0] > searcher.distribution.logits[:, 1])


def test_below_the_target_cost_does_not_count() -> None:
    searcher = make_searcher(beta=1.0, target=10 * TARGET)
    searcher.learn(0.0 * searcher.relax(1.0)[0].sum())
    assert torch.count_nonzero(searcher.distribution.logits) == 0


def test_alpha_step_reaches_every_variable_and_no_weight() -> None:
    trainer = make_trainer(warmup=0, beta=0.0)
    batch = next(Batches(2).iterate())
    trainer.searchers[0].learn(trainer._mixture_loss(trainer.searchers[0].relax(1.0), batch))
    assert torch.count_nonzero(trainer.searchers[0].distribution.logits) == 2 * len(SPACE.variables)
    assert all(weight.grad is None for weight in trainer.supernet.parameters())


def test_warmup_learns_weights_only_and_temperature_falls_after_it() -> None:
    trainer = make_trainer(warmup=3, iterations=7)
    before = {name: w.detach().clone() for name, w in trainer.supernet.store.named_weights()}
    temperatures = []
    run_step = trainer.run_step

    def recording_step() -> None:
        run_step()
        temperatures.append(trainer.storage.latest()["temperature"][0])

    trainer.run_step = recording_step
    trainer.train(0, 3)
    assert torch.count_nonzero(trainer.searchers[0].distribution.logits) == 0
    after = dict(trainer.supernet.store.named_weights())
    assert any(not torch.equal(before[name], after[name]) for name in before)
    trainer.train(3, 7)
    assert torch.count_nonzero(trainer.searchers[0].distribution.logits) > 0
    assert temperatures[:4] == [5.0] * 4
    ratios = [b / a for a, b in itertools.pairwise(temperatures[3:])]
    assert ratios == pytest.approx([0.1 ** (1 / 3)] * 3)


def test_search_brings_the_expected_cost_to_the_target() -> None:
    trainer = make_trainer(iterations=60, beta=5.0)
    assert trainer.searchers[0].expected_cost().item() > 1.25 * TARGET
    trainer.train(0, 60)
    assert trainer.searchers[0].expected_cost().item() < 1.05 * TARGET
    result = trainer.searchers[0].result()
    assert result.cost <= TARGET
    assert result.num_samples == 58


@pytest.mark.parametrize("stop", [1, 4])
def test_resumed_search_ends_with_the_same_bits(stop: int) -> None:
    whole = make_trainer()
    whole.train(0, 8)

    first = make_trainer()
    first.train(0, stop)
    second = make_trainer()
    second.supernet.load_state_dict(first.supernet.state_dict())
    second.load_state_dict(first.state_dict())
    second.train(second.steps_done, 8)

    assert torch.equal(
        whole.searchers[0].distribution.logits, second.searchers[0].distribution.logits
    )
    assert whole.searchers[0].history == second.searchers[0].history
    resumed = second.supernet.state_dict()
    for name, value in whole.supernet.state_dict().items():
        assert torch.equal(value, resumed[name]), name


def test_nan_stops_before_alpha_moves() -> None:
    trainer = make_trainer(warmup=2, bad_from=1)
    with pytest.raises(DivergedError, match="iteration 3"):
        trainer.train(0, 6)
    assert torch.isfinite(trainer.searchers[0].distribution.logits).all()
    assert len(trainer.searchers[0].history["entropy"]) == 1


def test_several_targets_take_the_steps_in_turn() -> None:
    trainer = make_trainer(targets=(24_000, 90_000), beta=5.0)
    trainer.train(0, 8)
    small, large = trainer.searchers
    assert len(small.history["entropy"]) == len(large.history["entropy"]) == 3
    assert small.expected_cost() < large.expected_cost()


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(UserError, match="temperature must be above 0"):
        make_searcher().relax(temperature)


SPACE_REGISTRY.register(lambda: SPACE, name="test_differentiable")


@DATASET_REGISTRY.register(name="test_differentiable")
def shaded(cfg: CfgNode, split: str) -> ImageSet:
    """Three shades of noise, 16 images of each."""
    labels = torch.arange(48) % 3
    noise = torch.randint(
        60, (48, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(len(split))
    )
    images = (noise + 90 * labels[:, None, None, None]).to(torch.uint8)
    return TensorImages(images, labels, ["dark", "grey", "light"])


def make_cfg(output_dir: Path, **overrides: object) -> CfgNode:
    cfg = get_cfg()
    options = {
        "OUTPUT_DIR": output_dir,
        "DATA.NAME": "test_differentiable",
        "DATA.INPUT_SIZE": SIDE,
        "SOLVER.EPOCHS": 3,
        "SOLVER.BATCH_SIZE": 12,
        "SEARCH.METHOD": "differentiable",
        "SEARCH.SPACE": "test_differentiable",
        "SEARCH.VAL_BATCH_SIZE": 12,
        "SEARCH.TARGET": TARGET,
        "SEARCH.WARMUP_EPOCHS": 1,
        "SEARCH.BN_BATCHES": 2,
        "LOG.TENSORBOARD": False,
        **{name.replace("__", "."): value for name, value in overrides.items()},
    }
    for key, value in options.items():
        cfg.merge_from_list([key, str(value)])
    return cfg


class _InterruptAfter(HookBase):
    """Acts as a signal that arrives in a step."""

    def __init__(self, step: int, save: object) -> None:
        self.step = step
        self.save = save

    def after_step(self) -> None:
        if self.trainer.steps_done == self.step:
            self.save()
            raise Interrupted(2, "stopped by the test")


def test_whole_run_from_a_config_and_its_resumption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    [result] = search_run.run_search(make_cfg(whole))
    assert result.cost <= TARGET
    assert Architecture.load(whole / "architecture.yaml").flops(SIDE) == result.cost
    assert SearchResult.load(whole / "search_result.pth").num_samples == 4
    report = (whole / "report.html").read_text()
    assert "Differentiable search over" in report
    assert "mixtures of all choices rated in 4 steps" in report
    rows = [json.loads(line) for line in (whole / "metrics.json").read_text().splitlines()]
    assert [("val_loss" in row) for row in rows] == [False] * 2 + [True] * 4
    assert rows[-1]["temperature"] == pytest.approx(0.5)
    assert "mode_top1" in rows[-1]
    # The checkpoint is one of a plain supernet.
    supernet = SuperNet(result.space, 3)
    load_weights(supernet, whole / "model_final.pth")
    assert supernet(torch.zeros(2, 3, SIDE, SIDE), result.choices).shape == (2, 3)

    build_hooks = search_run.build_hooks

    def with_interrupt(*args: object, **parts: object) -> list[HookBase]:
        hooks = build_hooks(*args, **parts)
        save = next(hook.save for hook in hooks if hasattr(hook, "save"))
        return [*hooks, _InterruptAfter(3, save)]

    with monkeypatch.context() as patch:
        patch.setattr(search_run, "build_hooks", with_interrupt)
        with pytest.raises(Interrupted):
            search_run.run_search(make_cfg(halved))
    [resumed] = search_run.run_search(make_cfg(halved), resume=True)
    assert torch.equal(resumed.distribution.logits, result.distribution.logits)
    models = [
        torch.load(folder / "model_final.pth", weights_only=True)["model"]
        for folder in (whole, halved)
    ]
    assert all(torch.equal(models[1][name], value) for name, value in models[0].items())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"SEARCH__METHOD": "diferentiable"}, "SEARCH.METHOD.*Did you mean 'differentiable'"),
        ({"SEARCH__TEMPERATURE_START": 0.0}, "SEARCH.TEMPERATURE_START is 0"),
        ({"SEARCH__TEMPERATURE_END": -1.0}, "SEARCH.TEMPERATURE_END is -1"),
        ({"SEARCH__DISTRIBUTION": "joint"}, "SEARCH.DISTRIBUTION is 'joint'; valid: 'mixed'; S"),
        (
            {"SEARCH__JOINT_EPOCH": 2.0},
            "SEARCH.JOINT_EPOCH is 2.0; valid: 10.0; SEARCH.METHOD 'dif",
        ),
        ({"SEARCH__SAMPLING": "fixed"}, "SEARCH.SAMPLING is 'fixed'.*does not use it"),
        ({"SEARCH__LAMBDA": 0.5}, "SEARCH.LAMBDA is 0.5.*does not use it"),
        ({"SEARCH__NUM_SAMPLES": 4}, "SEARCH.NUM_SAMPLES is 4.*does not use it"),
        ({"SEARCH__ESTIMATOR": "paper"}, "SEARCH.ESTIMATOR is 'paper'.*does not use it"),
        ({"SEARCH__LIKELIHOOD_SCALE": 1.0}, "SEARCH.LIKELIHOOD_SCALE is 1.0.*does not use it"),
        ({"SEARCH__WARMUP_SAMPLES": 1}, "SEARCH.WARMUP_SAMPLES is 1.*does not use it"),
        ({"SEARCH__RATING_SHARE": 0.5}, "SEARCH.RATING_SHARE is 0.5.*does not use it"),
        ({"SEARCH__CLASSIFIER_LR": 0.05}, "SEARCH.CLASSIFIER_LR is 0.05.*does not use it"),
    ],
)
def test_wrong_keys_leave_nothing(
    tmp_path: Path, overrides: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        search_run.run_search(make_cfg(tmp_path / "out", **overrides))
    assert not (tmp_path / "out").exists()
