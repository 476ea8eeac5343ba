"""One step of ClassificationTrainer: checks before the update, and switches that act."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from fpnas.engine import HookBase
from fpnas.errors import DivergedError
from fpnas.solver import ClassificationLoss, build_ema
from fpnas.training import ClassificationTrainer


class Batches:
    """Batch i is a pure function of i; from ``nan_from`` on the images are NaN."""

    def __init__(self, nan_from: int = 10**9) -> None:
        self.nan_from = nan_from

    def iterate(self, start_iteration: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for i in itertools.count(start_iteration):
            images = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(i))
            yield images + (torch.nan if i >= self.nan_from else 0), torch.arange(4) % 3


class Recorder(nn.Module):
    """Passes images on; remembers their layout."""

    def forward(self, images: Tensor) -> Tensor:
        self.channels_last = images.is_contiguous(memory_format=torch.channels_last)
        return images


def make_trainer(
    lr: float = 0.1, batches: Batches | None = None, **options
) -> ClassificationTrainer:
    torch.manual_seed(0)
    model = nn.Sequential(Recorder(), nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(80, 3))
    if options.pop("ema", False):
        options["ema"] = build_ema(model, 0.9)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    loss = ClassificationLoss()
    return ClassificationTrainer(model, optimizer, batches or Batches(), loss, **options)


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


class KeepState(HookBase):
    """Keeps weights and average after every finished step."""

    def after_step(self) -> None:
        self.state = copy_of(self.trainer.model), copy_of(self.trainer.ema)


def test_a_step_is_plain_sgd_on_the_batch_s_loss():
    trainer, twin = make_trainer(), make_trainer()
    trainer.train(0, 1)
    images, labels = next(Batches().iterate(0))
    loss = nn.functional.cross_entropy(twin.model(images), labels)
    grads = torch.autograd.grad(loss, list(twin.model.parameters()))
    expected = [p - 0.1 * g for p, g in zip(twin.model.parameters(), grads, strict=True)]
    torch.testing.assert_close(list(trainer.model.parameters()), expected)
    latest = {name: value for name, (value, _) in trainer.storage.latest().items()}
    assert latest["loss"] == pytest.approx(loss.item())
    norm = torch.cat([grad.flatten() for grad in grads]).norm()
    assert latest["grad_norm"] == pytest.approx(norm.item(), rel=1e-5)
    top1 = 100 * (twin.model(images).argmax(1) == labels).float().mean().item()
    assert latest["train_top1"] == pytest.approx(top1)
    assert latest["data_time"] >= 0


def test_a_nan_loss_stops_before_weights_and_average_change():
    trainer = make_trainer(batches=Batches(nan_from=3), ema=True)
    keep = KeepState()
    trainer.register_hooks([keep])
    with pytest.raises(DivergedError, match="loss became nan at iteration 3"):
        trainer.train(0, 10)
    assert_equal(copy_of(trainer.model), keep.state[0])
    assert_equal(copy_of(trainer.ema), keep.state[1])


def test_an_infinite_gradient_of_a_finite_loss_stops_before_the_update():
    trainer = make_trainer()
    trainer.model[3].weight.register_hook(lambda grad: torch.full_like(grad, torch.inf))
    before = copy_of(trainer.model)
    with pytest.raises(DivergedError, match="gradient norm became inf at iteration 0"):
        trainer.train(0, 1)
    assert_equal(copy_of(trainer.model), before)


def test_clipping_limits_the_norm_and_keeps_the_direction():
    free, clipped = make_trainer(lr=1.0), make_trainer(lr=1.0, clip_grad_norm=0.01)
    start = nn.utils.parameters_to_vector(free.model.parameters()).detach().clone()
    for trainer in (free, clipped):
        trainer.train(0, 1)
    free_step, step = (
        nn.utils.parameters_to_vector(trainer.model.parameters()) - start
        for trainer in (free, clipped)
    )
    assert free_step.norm() > 0.1
    assert step.norm().item() == pytest.approx(0.01, rel=1e-3)
    assert torch.cosine_similarity(free_step, step, dim=0).item() == pytest.approx(1, abs=1e-4)


def test_a_small_gradient_is_not_clipped():
    free, clipped = make_trainer(), make_trainer(clip_grad_norm=1e3)
    for trainer in (free, clipped):
        trainer.train(0, 2)
    assert_equal(copy_of(clipped.model), copy_of(free.model))


@pytest.mark.parametrize("amp", [False, True])
def test_a_teacher_computes_as_the_student(amp):
    trainer = make_trainer(amp=amp)
    teacher = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(80, 3))
    trainer._loss = ClassificationLoss(teacher=teacher)
    seen = []
    teacher[0].register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    trainer.train(0, 1)
    assert seen == [torch.bfloat16 if amp else torch.float32]
    assert trainer.storage.latest()["loss"][0] > 0


@pytest.mark.parametrize("amp", [False, True])
def test_amp_computes_the_forward_pass_in_bfloat16_and_the_weights_in_float32(amp):
    trainer = make_trainer(amp=amp)
    seen = []
    trainer.model[3].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    trainer.train(0, 1)
    assert seen == [torch.bfloat16 if amp else torch.float32]
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("channels_last", [False, True])
def test_images_have_the_memory_format_asked_for(channels_last):
    trainer = make_trainer(channels_last=channels_last)
    trainer.train(0, 1)
    assert trainer.model[0].channels_last is channels_last


def test_compile_model_runs_the_step_through_torch_compile(monkeypatch):
    calls = []

    def count_calls(self: nn.Module) -> None:
        self._compiled_call_impl = lambda images: calls.append(1) or self._call_impl(images)

    monkeypatch.setattr(nn.Module, "compile", count_calls)
    make_trainer().train(0, 2)
    assert not calls
    make_trainer(compile_model=True).train(0, 2)
    assert len(calls) == 2


def test_the_average_is_evaluated_and_follows_the_weights():
    trainer = make_trainer(ema=True)
    trainer.train(0, 5)
    assert trainer.evaluated is trainer.ema.module
    assert int(trainer.ema.n_averaged) == 5
    assert not torch.equal(trainer.evaluated[3].weight, trainer.model[3].weight)


def test_train_top1_is_the_mean_of_the_first_fifty_steps():
    trainer = make_trainer(lr=0.0)
    trainer.train(0, 20)
    images = [next(Batches().iterate(i)) for i in range(20)]
    accuracies = [(trainer.model(x).argmax(1) == y).float().mean().item() for x, y in images]
    assert trainer.storage.latest()["train_top1"][0] == pytest.approx(5 * sum(accuracies))


def test_the_state_of_a_run_with_average_does_not_fit_one_without():
    with pytest.raises(ValueError, match="EMA_DECAY"):
        make_trainer().load_state_dict(make_trainer(ema=True).state_dict())
