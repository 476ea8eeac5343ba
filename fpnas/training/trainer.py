"""ClassificationTrainer: one step of the training of a classifier."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from fpnas.engine import TrainerBase, check_finite
from fpnas.solver import ClassificationLoss
from fpnas.utils import comm

# Images [N, 3, S, S] and labels [N].
Batch = tuple[Tensor, Tensor]

# "train_top1" is an average over about this many steps.
_RUNNING_STEPS = 50


class BatchSource(Protocol):
    """Endless batches that can start anywhere, such as :class:`fpnas.data.TrainLoader`."""

    def iterate(self, start_iteration: int = 0) -> Iterator[Batch]:
        """Batches ``start_iteration``, ``start_iteration + 1``, ... without end."""


class ClassificationTrainer(TrainerBase):
    """Trains a network on labelled images; with several processes, on a share of each batch.

    A step puts "loss", "train_top1" (percent, of augmented images, over about the last 50 steps),
    "grad_norm" (before clipping) and "data_time" (s, waiting for images). A loss or a gradient that
    is not finite raises DivergedError before the weights are touched.

    Its state holds all but the evaluated weights (:attr:`evaluated`), which the checkpointer saves.

    Args:
        model: on its device, in its memory format.
        optimizer: of the model's parameters.
        loader: step i takes batch i.
        loss: of logits, labels and images.
        ema: average of ``model``, updated every step.
        clip_grad_norm: largest norm of the gradient; 0: no limit.
        amp: bfloat16 autocast.
        channels_last: memory format of the images, which the model's should be, too.
        compile_model: let torch.compile speed up the trained network.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        loader: BatchSource,
        loss: ClassificationLoss,
        *,
        ema: AveragedModel | None = None,
        clip_grad_norm: float = 0.0,
        amp: bool = False,
        channels_last: bool = False,
        compile_model: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.optimizer = optimizer
        self.ema = ema
        self._device = next(model.parameters()).device
        self._loss = loss
        self._loader = loader
        self._clip_grad_norm = clip_grad_norm
        self._amp = amp
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._running_top1 = 0.0
        if compile_model:
            model.compile()
        self._network = _distributed(model, self._device)

    @property
    def evaluated(self) -> nn.Module:
        """The network whose accuracy counts: the average if there is one."""
        return self.model if self.ema is None else self.ema.module

    def before_train(self) -> None:
        """Start the data where this run starts."""
        self._batches = self._loader.iterate(self.start_iter)
        self._network.train()
        super().before_train()

    def after_train(self) -> None:
        """Let go of the data: its workers end."""
        del self._batches
        super().after_train()

    def run_step(self) -> None:
        """Forward, check, backward, update."""
        images, labels, data_time = self._next_batch()
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._amp):
            logits = self._network(images)
        logits = logits.float()
        loss = self._loss(logits, labels, images)
        correct = (logits.detach().argmax(1) == labels).float().mean()
        means = comm.all_reduce_mean({"loss": loss.detach(), "top1": 100 * correct})
        check_finite(means["loss"], self.iter)  # the mean, so that all processes stop together

        self.optimizer.zero_grad()
        loss.backward()
        grad_norm = self._clip_gradient()
        check_finite(grad_norm, self.iter, "gradient norm")
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update_parameters(self.model)

        self._running_top1 += (means["top1"] - self._running_top1) / min(
            self.iter + 1, _RUNNING_STEPS
        )
        self.storage.put_scalars(
            loss=means["loss"],
            train_top1=self._running_top1,
            grad_norm=grad_norm,
            data_time=data_time,
        )

    def _next_batch(self) -> tuple[Tensor, Tensor, float]:
        """Images and labels on the model's device, and the seconds they were waited for."""
        start = time.perf_counter()
        images, labels = next(self._batches)
        waited = time.perf_counter() - start
        images = images.to(self._device, memory_format=self._memory_format, non_blocking=True)
        return images, labels.to(self._device, non_blocking=True), waited

    def _clip_gradient(self) -> Tensor:
        """Scale the gradient down to the largest norm allowed; its norm before."""
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        norm = get_total_norm([p.grad for p in parameters])
        if self._clip_grad_norm:
            clip_grads_with_norm_(parameters, self._clip_grad_norm, norm)
        return norm

    def state_dict(self) -> dict[str, Any]:
        """The loop's state, the optimizer's, and with an average the trained weights."""
        state = {
            **super().state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "running_top1": self._running_top1,
        }
        if self.ema is not None:
            state["trained_model"] = self.model.state_dict()
            state["num_averaged"] = int(self.ema.n_averaged)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over :meth:`state_dict`. ValueError if SOLVER.EMA_DECAY came or went."""
        if ("trained_model" in state) != (self.ema is not None):
            raise ValueError("only one of the two runs averages weights, SOLVER.EMA_DECAY")
        super().load_state_dict(state)
        self.optimizer.load_state_dict(state["optimizer"])
        self._running_top1 = state["running_top1"]
        if self.ema is not None:
            self.model.load_state_dict(state["trained_model"])
            self.ema.n_averaged.fill_(state["num_averaged"])


def _distributed(model: nn.Module, device: torch.device) -> nn.Module:
    """``model``, wrapped if this run has several processes."""
    if comm.get_world_size() == 1:
        return model
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)
