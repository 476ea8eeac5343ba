"""SegmentationTrainer: the loss of a batch of images with masks."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from fpnas.training import ModelTrainer
from fpnas_segmentation.data import IGNORED


class SegmentationTrainer(ModelTrainer):
    """Trains by the cross entropy of a pixel, mean over those of the batch that count."""

    def batch_loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        images, masks = (part.to(self.device) for part in batch)
        logits = self.model(images)
        total = F.cross_entropy(logits, masks, ignore_index=IGNORED, reduction="sum")
        loss = total / (masks != IGNORED).sum().clamp(min=1)
        return loss, {"loss": loss.detach()}
