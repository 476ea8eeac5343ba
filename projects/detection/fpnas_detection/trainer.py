"""DetectionTrainer: the loss of a batch of images with boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from fpnas.training import ModelTrainer
from fpnas_detection.data import Target


class DetectionTrainer(ModelTrainer):
    """Trains a detector of torchvision, which in training mode returns its losses.

    A step puts "loss", each of its terms as "loss_NAME", "grad_norm" and "data_time"; see
    :class:`fpnas.training.ModelTrainer`.
    """

    def batch_loss(self, batch: tuple[Tensor, list[Target]]) -> tuple[Tensor, dict[str, Tensor]]:
        images, targets = batch
        there = [
            {name: value.to(self.device) for name, value in target.items()} for target in targets
        ]
        losses = self.model(list(images.to(self.device)), there)
        loss = torch.stack(list(losses.values())).sum()
        terms = {f"loss_{name.removeprefix('loss_')}": v.detach() for name, v in losses.items()}
        return loss, {"loss": loss.detach(), **terms}
