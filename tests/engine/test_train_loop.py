"""Order of the loop, errors in it, and the hooks that need no checkpoint."""

from __future__ import annotations

import math

import pytest
import torch
from fvcore.common.param_scheduler import LinearParamScheduler
from torch import nn

from fpnas.engine import (
    BestCheckpointHook,
    CheckpointHook,
    EvalHook,
    HookBase,
    IterationTimer,
    LRSchedulerHook,
    PeriodicWriter,
    TrainerBase,
    check_finite,
)
from fpnas.errors import ConfigError, DivergedError
from fpnas.utils.checkpoint import Checkpointer
from fpnas.utils.events import EventStorage, EventWriter


class CountingTrainer(TrainerBase):
    def __init__(self, calls: list[str] | None = None) -> None:
        super().__init__()
        self.calls = [] if calls is None else calls

    def run_step(self) -> None:
        self.calls.append(f"step {self.iter}")
        self.storage.put_scalar("loss", 10 - self.iter)


class RecordingHook(HookBase):
    def __init__(self, calls: list[str], name: str = "") -> None:
        self.calls = calls
        self.name = name

    def before_train(self) -> None:
        self.calls.append(f"{self.name}before_train")

    def before_step(self) -> None:
        self.calls.append(f"{self.name}before {self.trainer.iter} {self.trainer.storage.iter}")

    def after_step(self) -> None:
        self.calls.append(f"{self.name}after {self.trainer.iter} {self.trainer.steps_done}")

    def after_train(self) -> None:
        self.calls.append(f"{self.name}after_train {self.trainer.iter}")


class StatefulHook(HookBase):
    def __init__(self, value: int) -> None:
        self.value = value

    def state_dict(self) -> dict[str, int]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.value = state["value"]


class ListWriter(EventWriter):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self, storage: EventStorage) -> None:
        self.calls.append(f"start {storage.iter}")

    def write(self, storage: EventStorage) -> None:
        self.calls.append(f"write {storage.iter}")

    def close(self) -> None:
        self.calls.append("close")


def test_order_of_calls():
    trainer = CountingTrainer()
    trainer.register_hooks([RecordingHook(trainer.calls)])
    trainer.train(3, 5)
    assert trainer.calls == [
        "before_train",
        *("before 3 3", "step 3", "after 3 4"),
        *("before 4 4", "step 4", "after 4 5"),
        "after_train 5",
    ]
    assert (trainer.iter, trainer.steps_done, trainer.start_iter) == (5, 5, 3)


def test_after_train_of_all_hooks_runs_after_an_error_in_order():
    class FailingHook(HookBase):
        def after_train(self) -> None:
            raise OSError("disk is gone")

    class FailingTrainer(CountingTrainer):
        def run_step(self) -> None:
            raise DivergedError("diverged")

    trainer = FailingTrainer()
    first, last = RecordingHook(trainer.calls, "first "), RecordingHook(trainer.calls, "last ")
    trainer.register_hooks([first, FailingHook(), last])
    with pytest.raises(OSError) as raised:
        trainer.train(0, 2)
    assert isinstance(raised.value.__context__, DivergedError)
    assert trainer.calls[-2:] == ["first after_train 0", "last after_train 0"]
    assert trainer.steps_done == 0


def test_states_of_two_hooks_of_one_class_are_kept_apart(caplog):
    trainer = CountingTrainer()
    trainer.register_hooks([StatefulHook(1), StatefulHook(2)])
    trainer.train(0, 4)
    state = trainer.state_dict()

    hooks = [StatefulHook(0), StatefulHook(0)]
    restored = CountingTrainer()
    restored.register_hooks(hooks)
    restored.load_state_dict(state)
    assert [hook.value for hook in hooks] == [1, 2]
    assert restored.steps_done == 4
    assert restored.storage.latest()["loss"] == (7, 3)
    assert restored.state_dict()["hooks"] == state["hooks"]

    CountingTrainer().load_state_dict(state)
    assert "hook 'StatefulHook-2', unused here" in caplog.text


def test_resuming_with_another_number_of_processes_warns(caplog):
    trainer = CountingTrainer()
    state = trainer.state_dict()
    state["rng"] = state["rng"] * 2
    trainer.load_state_dict(state)
    assert "a run with 2 processes, this one has 1" in caplog.text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_check_finite(value):
    check_finite(torch.tensor(2.5), 3)
    with pytest.raises(DivergedError, match=r"became -?(nan|inf) at iteration 3\..*SOLVER\.LR"):
        check_finite(torch.tensor(value), 3)


def test_learning_rate_follows_the_multiplier_of_the_base_rates():
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD(
        [{"params": parameters[:1], "lr": 1.0}, {"params": parameters[1:], "lr": 0.1}]
    )
    trainer = CountingTrainer()
    rates: list[float] = []

    class Rates(HookBase):
        def after_step(self) -> None:
            rates.extend(group["lr"] for group in optimizer.param_groups)

    hook = LRSchedulerHook(optimizer, LinearParamScheduler(1.0, 0.0))
    trainer.register_hooks([hook, Rates()])
    trainer.train(0, 4)
    assert rates == pytest.approx([1.0, 0.1, 0.75, 0.075, 0.5, 0.05, 0.25, 0.025])
    assert trainer.storage.latest()["lr"] == (0.25, 3)

    # A second hook on the same optimizer starts from the base rates, not from the scheduled ones.
    again = CountingTrainer()
    again.register_hooks([LRSchedulerHook(optimizer, LinearParamScheduler(1.0, 0.0))])
    again.train(2, 4)
    assert again.storage.history("lr").values() == [(0.5, 2), (0.25, 3)]


@pytest.mark.parametrize(
    ("period", "steps"), [(0, [7]), (3, [3, 6, 7]), (7, [7]), (1, [1, 2, 3, 4, 5, 6, 7])]
)
def test_evaluation_comes_every_period_and_at_the_end(period, steps):
    trainer = CountingTrainer()
    evaluated: list[int] = []

    def evaluate() -> dict[str, float]:
        evaluated.append(trainer.steps_done)
        return {"val/top1": 50.0 + trainer.steps_done}

    trainer.register_hooks([EvalHook(period, evaluate)])
    trainer.train(0, 7)
    assert evaluated == steps
    assert trainer.storage.latest()["val/top1"] == (57.0, 6)


def test_writers_write_every_period_and_at_the_end_and_are_closed():
    writer = ListWriter()
    trainer = CountingTrainer()
    trainer.register_hooks([PeriodicWriter([writer], 2)])
    trainer.train(1, 6)
    expected = ["start 1", "write 1", "write 3", "write 5", "write 6", "close"]
    assert writer.calls == expected


def test_iteration_timer_times_steps(caplog):
    caplog.set_level("INFO", logger="fpnas")
    trainer = CountingTrainer()
    trainer.register_hooks([IterationTimer()])
    trainer.train(0, 5)
    assert len(trainer.storage.history("time").values()) == 5
    assert 0 < trainer.storage.history("time").latest() < 1
    assert "5 steps in" in caplog.text


class MetricTrainer(TrainerBase):
    """Puts the next of the given metrics at every step, and has a model that counts steps."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values = values
        self.model = nn.Linear(1, 1, bias=False)

    def run_step(self) -> None:
        with torch.no_grad():
            self.model.weight.fill_(self.steps_done + 1)
        self.storage.put_scalar("top1", self.values[self.iter])


@pytest.mark.parametrize(
    ("values", "best_step"),
    [([1.0, 3.0, 2.0, 3.0], 2), ([math.nan, -1.0, math.inf, -2.0], 2)],
)
def test_best_checkpoint(values, best_step, tmp_path):
    trainer = MetricTrainer(values)
    checkpointer = Checkpointer(trainer.model, tmp_path, trainer=trainer)
    trainer.register_hooks([BestCheckpointHook(checkpointer, "top1")])
    trainer.train(0, 4)
    saved = torch.load(tmp_path / "model_best.pth", weights_only=True)
    assert saved["iteration"] == best_step
    assert saved["model"]["weight"].item() == best_step
    assert saved["top1"] == values[best_step - 1]
    assert "trainer" not in saved
    assert checkpointer.resumable_files() == []


def test_best_checkpoint_of_a_missing_metric(tmp_path, caplog):
    trainer = MetricTrainer([1.0])
    trainer.register_hooks([BestCheckpointHook(Checkpointer(trainer.model, tmp_path), "top5")])
    trainer.train(0, 1)
    assert not (tmp_path / "model_best.pth").exists()
    assert "No finite 'top5' was put" in caplog.text


def test_best_value_survives_a_resume(tmp_path):
    first = MetricTrainer([1.0, 9.0])
    first_hook = BestCheckpointHook(Checkpointer(first.model, tmp_path), "top1")
    first.register_hooks([first_hook])
    first.train(0, 2)
    resumed = MetricTrainer([1.0, 9.0, 5.0])
    resumed.register_hooks([BestCheckpointHook(Checkpointer(resumed.model, tmp_path), "top1")])
    resumed.load_state_dict(first.state_dict())
    resumed.train(2, 3)
    assert torch.load(tmp_path / "model_best.pth")["top1"] == 9.0


def test_checkpoints_kept(tmp_path):
    trainer = MetricTrainer([0.0] * 11)
    checkpointer = Checkpointer(trainer.model, tmp_path, trainer=trainer)
    trainer.register_hooks([CheckpointHook(checkpointer, 2, keep=3)])
    trainer.train(0, 11)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == [
        "last_checkpoint",
        *(f"model_{step:07d}.pth" for step in (6, 8, 10)),
        "model_final.pth",
    ]
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    saved = torch.load(tmp_path / "model_0000008.pth", weights_only=True)
    assert saved["iteration"] == saved["trainer"]["iteration"] == 8


def test_checkpoint_hook_refuses_what_could_not_be_resumed(tmp_path):
    trainer = MetricTrainer([0.0])
    with pytest.raises(ConfigError, match=r"CHECKPOINT\.KEEP must be at least 2, found 1"):
        CheckpointHook(Checkpointer(trainer.model, tmp_path), 1, keep=1)
    with pytest.raises(ConfigError, match=r"CHECKPOINT\.PERIOD must not be negative"):
        CheckpointHook(Checkpointer(trainer.model, tmp_path), -1)
    trainer.register_hooks([CheckpointHook(Checkpointer(trainer.model, tmp_path), 1)])
    with pytest.raises(ValueError, match="trainer=trainer"):
        trainer.train(0, 1)


def test_diverged_run_keeps_the_last_good_checkpoint(tmp_path):
    class Diverging(MetricTrainer):
        def run_step(self) -> None:
            check_finite(self.values[self.iter], self.iter)
            super().run_step()

    trainer = Diverging([1.0, 1.0, math.nan, 1.0])
    checkpointer = Checkpointer(trainer.model, tmp_path, trainer=trainer)
    trainer.register_hooks([CheckpointHook(checkpointer, 1)])
    with pytest.raises(DivergedError):
        trainer.train(0, 4)
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000002.pth"
    assert trainer.model.weight.item() == 2
