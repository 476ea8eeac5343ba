"""One step of the training of a network, whatever its task; and the step of a classifier."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from fpnas.config import CfgNode
from fpnas.data.streaming import BatchSource
from fpnas.engine import TrainerBase, check_finite
from fpnas.solver import ClassificationLoss, restore_optimizer
from fpnas.utils import comm

# "train_top1" is an average over about this many steps.
_RUNNING_STEPS = 50


class ModelTrainer(TrainerBase):
    """Trains a network on batches. A subclass says what the loss of a batch is.

    A step puts what :meth:`batch_loss` returns, "grad_norm" (before clipping) and "data_time" (s,
    waiting for the batch). A loss or a gradient that is not finite raises DivergedError before the
    weights are touched.

    Its state holds all but the evaluated weights (:attr:`evaluated`), which the checkpointer saves.

    Args:
        model: on its device.
        optimizer: of the model's parameters.
        batches: step i takes batch i.
        ema: average of ``model``, updated every step.
        clip_grad_norm: largest norm of the gradient; 0: no limit.

    Attributes:
        device: where the model is.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        batches: BatchSource,
        *,
        ema: AveragedModel | None = None,
        clip_grad_norm: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.optimizer = optimizer
        self.ema = ema
        self.device = next(model.parameters()).device
        self._source = batches
        self._clip_grad_norm = clip_grad_norm

    def batch_loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor | float]]:
        """The loss to descend, and the scalars to put, "loss" among them.

        ``batch`` is as its source has made it. The scalar "loss" decides whether the run goes on;
        with several processes it is their mean, so that all of them stop together.
        """
        raise NotImplementedError

    @property
    def evaluated(self) -> nn.Module:
        """The network that counts: the average if there is one."""
        return self.model if self.ema is None else self.ema.module

    def before_train(self) -> None:
        """Start the data where this run starts."""
        self._batches = self._source.iterate(self.start_iter)
        self.model.train()
        super().before_train()

    def after_train(self) -> None:
        """Let go of the data: its workers end."""
        del self._batches
        super().after_train()

    def run_step(self) -> None:
        """Forward, check, backward, update."""
        start = time.perf_counter()
        batch = next(self._batches)
        data_time = time.perf_counter() - start
        loss, scalars = self.batch_loss(batch)
        check_finite(scalars["loss"], self.iter)

        self.optimizer.zero_grad()
        loss.backward()
        grad_norm = self._clip_gradient()
        check_finite(grad_norm, self.iter, "gradient norm")
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        self.storage.put_scalars(**scalars, grad_norm=grad_norm, data_time=data_time)

    def _clip_gradient(self) -> Tensor:
        """Scale the gradient down to the largest norm allowed; its norm before."""
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        norm = get_total_norm([p.grad for p in parameters])
        if self._clip_grad_norm:
            clip_grads_with_norm_(parameters, self._clip_grad_norm, norm)
        return norm

    def state_dict(self) -> dict[str, Any]:
        """The loop's state, the optimizer's, and with an average the trained weights."""
        state = {**super().state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.ema is not None:
            state["trained_model"] = self.model.state_dict()
            state["num_averaged"] = int(self.ema.n_averaged)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over :meth:`state_dict`. ValueError if SOLVER.EMA_DECAY came or went."""
        if ("trained_model" in state) != (self.ema is not None):
            raise ValueError("only one of the two runs averages weights, SOLVER.EMA_DECAY")
        super().load_state_dict(state)
        restore_optimizer(self.optimizer, state["optimizer"])
        if self.ema is not None:
            self.model.load_state_dict(state["trained_model"])
            self.ema.n_averaged.fill_(state["num_averaged"])


class ClassificationTrainer(ModelTrainer):
    """Trains a network on labelled images; with several processes, on a share of each batch.

    A step puts "loss", "train_top1" (percent, of augmented images, over about the last 50 steps),
    "grad_norm" and "data_time"; see :class:`ModelTrainer`.

    Args:
        model: on its device, in its memory format.
        loader: of images [N, 3, S, S] and labels [N].
        loss: of logits, labels and images.
        amp: bfloat16 autocast.
        channels_last: memory format of the images, which the model's should be, too.
        compile_model: let torch.compile speed up the trained network.
        optimizer, ema, clip_grad_norm: see :class:`ModelTrainer`.
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
        super().__init__(model, optimizer, loader, ema=ema, clip_grad_norm=clip_grad_norm)
        self._loss = loss
        self._amp = amp
        self._memory_format = _memory_format(channels_last)
        self._running_top1 = 0.0
        if compile_model:
            model.compile()
        self._network = model
        if comm.get_world_size() > 1:
            gpus = [self.device] if self.device.type == "cuda" else None
            self._network = DistributedDataParallel(model, device_ids=gpus)

    def batch_loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor | float]]:
        images, labels = batch
        images = images.to(self.device, memory_format=self._memory_format)
        labels = labels.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._amp):
            logits = self._network(images).float()
            loss = self._loss(logits, labels, images)  # a teacher computes in there
        correct = (logits.detach().argmax(1) == labels).float().mean()
        means = comm.all_reduce_mean({"loss": loss.detach(), "top1": 100 * correct})
        self._running_top1 += (means["top1"] - self._running_top1) / min(
            self.iter + 1, _RUNNING_STEPS
        )
        return loss, {"loss": means["loss"], "train_top1": self._running_top1}

    def state_dict(self) -> dict[str, Any]:
        """As :meth:`ModelTrainer.state_dict`, with the running accuracy."""
        return {**super().state_dict(), "running_top1": self._running_top1}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over :meth:`state_dict`. ValueError if SOLVER.EMA_DECAY came or went."""
        super().load_state_dict(state)
        self._running_top1 = state["running_top1"]


def placed(model: nn.Module, cfg: CfgNode) -> nn.Module:
    """``model`` on the device of this process, in the memory format of the config."""
    return model.to(comm.get_device(), memory_format=_memory_format(cfg.SOLVER.CHANNELS_LAST))


def _memory_format(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format
