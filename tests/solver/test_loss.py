"""Label smoothing and distillation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fpnas.solver import ClassificationLoss, distillation_loss

GENERATOR = torch.Generator().manual_seed(3)
LOGITS = torch.randn(5, 4, generator=GENERATOR)
TEACHER_LOGITS = torch.randn(5, 4, generator=GENERATOR)
LABELS = torch.tensor([0, 3, 1, 1, 2])
IMAGES = torch.zeros(5, 3, 2, 2)


class FixedTeacher(nn.Module):
    """Answers TEACHER_LOGITS; in training mode something else, as dropout would."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(TEACHER_LOGITS.clone())

    def forward(self, images):
        return self.logits * (0 if self.training else 1)


def test_label_smoothing_spreads_its_mass_over_all_classes():
    targets = F.one_hot(LABELS, 4) * 0.9 + 0.1 / 4
    expected = -(targets * LOGITS.log_softmax(1)).sum(1).mean()
    assert torch.isclose(ClassificationLoss(0.1)(LOGITS, LABELS, IMAGES), expected)


def test_distillation_is_the_kl_divergence_by_enumeration():
    temperature, total = 3.0, 0.0
    for student, teacher in zip(LOGITS.tolist(), TEACHER_LOGITS.tolist(), strict=True):
        q = [math.exp(z / temperature) for z in student]
        p = [math.exp(z / temperature) for z in teacher]
        for a, b in zip(p, q, strict=True):
            total += a / sum(p) * math.log((a / sum(p)) / (b / sum(q)))
    found = distillation_loss(LOGITS, TEACHER_LOGITS, temperature)
    assert float(found) == pytest.approx(9 * total / 5, rel=1e-5)


def test_distillation_from_an_equal_teacher_is_zero():
    assert float(distillation_loss(LOGITS, LOGITS, 2.0)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_two_losses_are_mixed_by_weight(weight):
    teacher = FixedTeacher().train()
    loss = ClassificationLoss(0.0, teacher, weight, 2.0)
    expected = (1 - weight) * F.cross_entropy(LOGITS, LABELS)
    expected += weight * distillation_loss(LOGITS, TEACHER_LOGITS, 2.0)
    assert torch.isclose(loss(LOGITS, LABELS, IMAGES), expected)


def test_no_gradient_reaches_the_teacher():
    teacher = FixedTeacher()
    logits = LOGITS.clone().requires_grad_()
    ClassificationLoss(0.0, teacher)(logits, LABELS, IMAGES).backward()
    assert logits.grad.abs().sum() > 0
    assert teacher.logits.grad is None and not teacher.logits.requires_grad
