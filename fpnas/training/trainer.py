"""ClassificationTrainer: the loss of a batch of labelled images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from fpnas.data.loader import BatchSource
from fpnas.solver import ClassificationLoss
from fpnas.training.model_trainer import ModelTrainer
from fpnas.utils import comm

# "train_top1" is an average over about this many steps.
_RUNNING_STEPS = 50


class ClassificationTrainer(ModelTrainer):
    """Trains a network on labelled images; with several processes, on a share of each batch.

    A step puts "loss", "train_top1" (percent, of augmented images, over about the last 50 steps),
    "grad_norm" and "data_time"; see :class:`ModelTrainer`.

    Args:
        model: on its device, in its memory format.
        optimizer: of the model's parameters.
        loader: step i takes batch i, images [N, 3, S, S] and labels [N].
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
        super().__init__(model, optimizer, loader, ema=ema, clip_grad_norm=clip_grad_norm)
        self._loss = loss
        self._amp = amp
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._running_top1 = 0.0
        if compile_model:
            model.compile()
        self._network = _distributed(model, self.device)

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


def _distributed(model: nn.Module, device: torch.device) -> nn.Module:
    """``model``, wrapped if this run has several processes."""
    if comm.get_world_size() == 1:
        return model
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)
