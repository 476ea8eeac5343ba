"""Optimisation of network weights: optimizers, schedules, losses, averaging."""

from fpnas.solver.loss import ClassificationLoss, distillation_loss
from fpnas.solver.optimizer import (
    build_ema,
    build_optimizer,
    build_schedule,
    check_solver_config,
    restore_optimizer,
)
from fpnas.solver.shared_sgd import SharedSGD

__all__ = [
    "ClassificationLoss",
    "SharedSGD",
    "build_ema",
    "build_optimizer",
    "build_schedule",
    "check_solver_config",
    "distillation_loss",
    "restore_optimizer",
]
