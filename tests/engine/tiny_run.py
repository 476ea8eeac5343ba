"""A run of a second or less that uses all that a real one does; also a script to be killed.

python tiny_run.py FOLDER KILL: the process kills itself (signal 9) at the moment called KILL.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from fvcore.common.param_scheduler import CosineParamScheduler
from torch import nn

from fpnas.engine import (
    BestCheckpointHook,
    CheckpointHook,
    EvalHook,
    HookBase,
    InterruptHook,
    LRSchedulerHook,
    PeriodicWriter,
    TrainerBase,
)
from fpnas.utils import comm
from fpnas.utils.checkpoint import Checkpointer
from fpnas.utils.events import JSONWriter
from fpnas.utils.rng import seed_all_rng

MAX_ITER = 24
CHECKPOINT_PERIOD = 8


class TinyTrainer(TrainerBase):
    """Momentum SGD on a linear model with dropout, and noise from all three global generators."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.3), nn.Linear(5, 3))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.02, momentum=0.9)

    def run_step(self) -> None:
        generator = torch.Generator().manual_seed(self.iter)
        inputs = torch.randn(4, 6, generator=generator)
        inputs += random.gauss(0, 0.1) + float(np.random.standard_normal())
        loss = self.model(inputs).pow(2).mean()
        self.optimizer.zero_grad()
        loss.backward()
        for parameter in self.model.parameters():
            parameter.grad = comm.all_reduce_mean(parameter.grad)
        self.optimizer.step()
        self.storage.put_scalars(loss=loss, num_samples=self.iter % 3)


class CallAfter(HookBase):
    """Calls ``action`` once ``steps`` steps are done, before later hooks save the step."""

    def __init__(self, steps: int, action: Callable[[], None]) -> None:
        self._steps = steps
        self._action = action

    def after_step(self) -> None:
        if self.trainer.steps_done == self._steps:
            self._action()


def run(
    folder: Path,
    *,
    resume: bool = False,
    max_iter: int = MAX_ITER,
    writer_period: int = 1,
    extra_hook: HookBase | None = None,
) -> TinyTrainer:
    """Train in ``folder`` up to ``max_iter`` and return the trainer."""
    folder.mkdir(exist_ok=True)
    seed_all_rng(7)
    trainer = TinyTrainer()
    checkpointer = Checkpointer(
        trainer.model, folder, config="SEED: 7\n", optimizer=trainer.optimizer, trainer=trainer
    )
    checkpoints = CheckpointHook(checkpointer, CHECKPOINT_PERIOD)
    trainer.register_hooks(
        [
            LRSchedulerHook(trainer.optimizer, CosineParamScheduler(1.0, 0.1)),
            EvalHook(6, lambda: {"score": float(trainer.model[0].weight.detach().mean())}),
            BestCheckpointHook(checkpointer, "score"),
            PeriodicWriter([JSONWriter(folder / "metrics.json")], writer_period),
            *([] if extra_hook is None else [extra_hook]),
            checkpoints,
            InterruptHook(checkpoints.save),
        ]
    )
    checkpointer.resume_or_load("", resume=resume)
    if trainer.steps_done:
        seed_all_rng(99)  # whatever happens between loading and the first step must not matter
    trainer.train(trainer.steps_done, max_iter)
    return trainer


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_in_the_middle_of_the_next_save() -> None:
    os.fsync = lambda descriptor: _kill()


if __name__ == "__main__":
    moments = {
        "between-checkpoints": CallAfter(13, _kill),
        "while-saving": CallAfter(16, _kill_in_the_middle_of_the_next_save),
    }
    run(Path(sys.argv[1]), extra_hook=moments[sys.argv[2]])
