"""Losses of classification."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ClassificationLoss(nn.Module):
    """Cross entropy with label smoothing, mixed with distillation if there is a teacher.

    ``loss = (1 - weight) * cross_entropy + weight * distillation``.

    Args:
        label_smoothing: probability mass that is spread evenly over all classes.
        teacher: trained network with the same classes; only its parameters' values are read. None:
            cross entropy alone.
        weight: share of the distillation loss.
        temperature: of the distillation loss.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        teacher: nn.Module | None = None,
        weight: float = 0.5,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self._cross_entropy = nn.CrossEntropyLoss(label_smoothing=label_smoothing)
        self._teacher = teacher.eval().requires_grad_(False) if teacher is not None else None
        self._weight = weight
        self._temperature = temperature

    def forward(self, logits: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """``logits`` float32 [N, classes], ``labels`` int64 [N], ``images`` [N, 3, S, S] -> []."""
        loss = self._cross_entropy(logits, labels)
        if self._teacher is None:
            return loss
        with torch.no_grad():
            teacher_logits = self._teacher(images).float()
        distillation = distillation_loss(logits, teacher_logits, self._temperature)
        return (1 - self._weight) * loss + self._weight * distillation


def distillation_loss(logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """``T^2 * KL(teacher || student)`` of softened probabilities, mean over the images, nats.

    Both logits [N, classes] are divided by ``temperature``. The factor T^2 keeps the gradient's
    size independent of T. Source: Hinton et al. 2015, section 2.
    """
    student = F.log_softmax(logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    return temperature**2 * divergence
