"""The loop of both kinds of training: schedule, metrics, checkpoints, resumption, CPU time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from fpnas.config import CfgNode
from fpnas.engine import HookBase, TrainerBase, build_hooks
from fpnas.utils.checkpoint import Checkpointer


class CpuTime(HookBase):
    """Processor time of the steps, over all sittings."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last = 0.0

    def before_train(self) -> None:
        self._last = time.process_time()

    def after_step(self) -> None:
        now = time.process_time()
        self.seconds += now - self._last
        self._last = now

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seconds = state["seconds"]


def train(
    trainer: TrainerBase,
    model: nn.Module,
    optimizer: Optimizer,
    cfg: CfgNode,
    folder: Path,
    iters_per_epoch: int,
    max_iter: int,
) -> float:
    """Train to the end, from the last checkpoint in ``folder`` on. Returns CPU seconds.

    The schedule stretches over ``max_iter``. ``model_final.pth`` has the weights of ``model``.
    """
    cpu = CpuTime()
    checkpointer = Checkpointer(model, folder, config=cfg.dump(), trainer=trainer)
    hooks = build_hooks(cfg, optimizer, checkpointer, iters_per_epoch, max_iter, shown=None)
    trainer.register_hooks([cpu, *hooks])
    checkpointer.resume_or_load("", resume=True)
    trainer.train(trainer.steps_done, max_iter)
    return cpu.seconds
