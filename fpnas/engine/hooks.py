"""Hooks for the trainer's loop.

Register them in this order, leaving out what is not needed: IterationTimer, LRSchedulerHook, own
hooks, EvalHook, BestCheckpointHook, PeriodicWriter, CheckpointHook, InterruptHook. A checkpoint
then has all that its step has brought, and no scalar is lost by a kill.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from fvcore.common.param_scheduler import ParamScheduler
from torch import Tensor
from torch.optim import Optimizer

from fpnas.config import CfgNode
from fpnas.engine.run_folder import set_aside_checkpoints
from fpnas.engine.train_loop import HookBase
from fpnas.errors import ConfigError, DivergedError
from fpnas.utils import comm
from fpnas.utils.checkpoint import Checkpointer, periodic_name
from fpnas.utils.events import EventWriter

logger = logging.getLogger(__name__)


def check_finite(loss: Tensor | float, iteration: int, name: str = "loss") -> None:
    """Raise DivergedError if ``loss`` (one element) is NaN or infinite.

    A trainer calls it before the weights are updated; the last checkpoint is then a good one.
    """
    value = float(loss)
    if not math.isfinite(value):
        raise DivergedError(
            f"The {name} became {value} at iteration {iteration}. The run stopped before this "
            "update of the weights; the last checkpoint is intact. A lower SOLVER.LR, a longer "
            "SOLVER.LR_WARMUP_EPOCHS or a SOLVER.CLIP_GRAD_NORM above 0 usually help."
        )


class IterationTimer(HookBase):
    """Puts "time", the seconds of each step, and logs the totals at the end. Comes first."""

    def before_train(self) -> None:
        self._train_start = time.perf_counter()
        self._in_steps = 0.0

    def before_step(self) -> None:
        self._step_start = time.perf_counter()

    def after_step(self) -> None:
        """Put the time of the step; hooks' work after it does not count."""
        seconds = time.perf_counter() - self._step_start
        self._in_steps += seconds
        self.trainer.storage.put_scalar("time", seconds)

    def after_train(self) -> None:
        """Log steps, total time, and the share of evaluation, logging and checkpoints."""
        steps = self.trainer.steps_done - self.trainer.start_iter
        if steps > 0:
            total = time.perf_counter() - self._train_start
            logger.info(
                "%d steps in %s (%.4f s a step), of which %s were spent outside the steps",
                steps,
                timedelta(seconds=round(total)),
                self._in_steps / steps,
                timedelta(seconds=round(total - self._in_steps)),
            )


class LRSchedulerHook(HookBase):
    """Sets each group's learning rate before a step, and puts the first group's as "lr".

    Args:
        optimizer: the learning rates that it has now are the base rates.
        multiplier: maps the trainer's progress, in [0, 1), to the factor on the base rates.

    The rate depends on the iteration alone, so there is no state to save.
    """

    def __init__(self, optimizer: Optimizer, multiplier: ParamScheduler) -> None:
        self._optimizer = optimizer
        self._multiplier = multiplier
        # A restored optimizer has scheduled rates; its base rates are kept beside them.
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])

    def before_step(self) -> None:
        factor = float(self._multiplier(self.trainer.progress))
        for group in self._optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        self.trainer.storage.put_scalar("lr", self._optimizer.param_groups[0]["lr"])


class EvalHook(HookBase):
    """Evaluates every ``period`` steps and after the last one.

    Args:
        period: steps between two evaluations. 0: only after the last step.
        evaluate: returns scalars, which are put into the storage under the same names. It is called
            in all processes, and leaves modules in training mode as it found them.
    """

    def __init__(self, period: int, evaluate: Callable[[], Mapping[str, float]]) -> None:
        self._period = _checked_period(period, "TEST.PERIOD")
        self._evaluate = evaluate

    def after_step(self) -> None:
        if _is_due(self._period, self.trainer.steps_done, self.trainer.max_iter):
            results = self._evaluate()
            self.trainer.storage.put_scalars(**results)
            shown = "  ".join(f"{name}: {float(value):.5g}" for name, value in results.items())
            logger.info("Evaluation after %d steps: %s", self.trainer.steps_done, shown)
            comm.synchronize()


class PeriodicWriter(HookBase):
    """Has ``writers`` write every ``period`` steps and after the last one, in the main process."""

    def __init__(self, writers: Sequence[EventWriter], period: int = 20) -> None:
        self._writers = tuple(writers) if comm.is_main_process() else ()
        self._period = _checked_period(period, "LOG.PERIOD")

    def before_train(self) -> None:
        for writer in self._writers:
            writer.start(self.trainer.storage)

    def after_step(self) -> None:
        if _is_due(self._period, self.trainer.steps_done, self.trainer.max_iter):
            self._write()

    def after_train(self) -> None:
        """Write what came since the last write, if a step was begun, and close."""
        try:
            if self.trainer.storage.iter > self.trainer.start_iter:
                self._write()
        finally:
            for writer in self._writers:
                writer.close()

    def _write(self) -> None:
        for writer in self._writers:
            writer.write(self.trainer.storage)


class CheckpointHook(HookBase):
    """Saves a checkpoint every ``period`` steps, and ``model_final`` after the last one.

    Args:
        checkpointer: has the trainer among its checkpointables.
        period: steps between two checkpoints. 0: only after the last step.
        keep: periodic checkpoints kept. At least 2, so that a damaged one costs one period.
    """

    def __init__(self, checkpointer: Checkpointer, period: int, keep: int = 2) -> None:
        self._checkpointer = checkpointer
        self._keep = _checked_keep(keep)
        self._period = _checked_period(period, "CHECKPOINT.PERIOD")
        self._saved = (-1, Path())  # finished steps and file of the last save

    def before_train(self) -> None:
        """Clean up after a killed run, and make way for a new one."""
        if self.trainer not in self._checkpointer.checkpointables.values():
            raise ValueError("CheckpointHook needs Checkpointer(..., trainer=trainer) to resume.")
        if self.trainer.start_iter == 0:
            set_aside_checkpoints(Path(self._checkpointer.save_dir))
        self._checkpointer.remove_temporary_files()

    def after_step(self) -> None:
        if _is_due(self._period, self.trainer.steps_done, self.trainer.max_iter):
            self.save()

    def save(self) -> Path:
        """Save the state after the steps done so far, once, and return the file. Collective."""
        done = self.trainer.steps_done
        if self._saved[0] != done:
            name = "model_final" if done == self.trainer.max_iter else periodic_name(done)
            self._checkpointer.save(name, iteration=done)
            self._checkpointer.prune(self._keep)
            self._saved = (done, self._checkpointer.path(name))
        return self._saved[1]


class BestCheckpointHook(HookBase):
    """Writes ``model_best.pth`` whenever ``metric`` is better than ever before in the run.

    That file has the weights (under "model"), the config, the metric and the iteration, but no
    state to go on from: it is never the one that a run is resumed from. Comes after the hook that
    puts the metric and before CheckpointHook.

    Args:
        checkpointer: says where to write.
        metric: name of a scalar in the storage, the larger the better.
    """

    def __init__(self, checkpointer: Checkpointer, metric: str) -> None:
        self._checkpointer = checkpointer
        self._metric = metric
        self.best: float | None = None
        self.best_iteration: int | None = None

    def after_step(self) -> None:
        """Compare, if the metric was put in this step."""
        value, iteration = self.trainer.storage.latest().get(self._metric, (math.nan, -1))
        is_better = math.isfinite(value) and (self.best is None or value > self.best)
        if iteration == self.trainer.iter and is_better:
            self.best, self.best_iteration = float(value), self.trainer.steps_done
            data = {
                "model": self._checkpointer.model.state_dict(),
                "config": self._checkpointer.config,
                "iteration": self.best_iteration,
                self._metric: self.best,
            }
            self._checkpointer.write("model_best", data)
            logger.info("Best %s so far: %.5g", self._metric, self.best)

    def after_train(self) -> None:
        """Name the best value, or warn if the metric never came."""
        if self.best is not None:
            logger.info(
                "Best %s: %.5g, after %d steps", self._metric, self.best, self.best_iteration
            )
        elif self.trainer.steps_done == self.trainer.max_iter:
            names = ", ".join(self.trainer.storage.latest())
            logger.warning(
                "No finite '%s' was put; model_best is missing. Put: %s", self._metric, names
            )

    def state_dict(self) -> dict[str, Any]:
        """The best value and after how many steps it came."""
        return {} if self.best is None else {"best": self.best, "iteration": self.best_iteration}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on comparing with the best value of the interrupted run."""
        self.best, self.best_iteration = state["best"], state["iteration"]


def check_hooks_config(cfg: CfgNode) -> None:
    """Raise ConfigError for a period, or a number of checkpoints, that the hooks would refuse."""
    for section in ("TEST", "CHECKPOINT", "LOG"):
        _checked_period(cfg[section].PERIOD, f"{section}.PERIOD")
    _checked_keep(cfg.CHECKPOINT.KEEP)


def _checked_keep(keep: int) -> int:
    if keep < 2:
        raise ConfigError(f"CHECKPOINT.KEEP must be at least 2, found {keep}.")
    return keep


def _checked_period(period: int, key: str) -> int:
    if period < 0:
        raise ConfigError(f"{key} must not be negative, found {period}.")
    return period


def _is_due(period: int, steps_done: int, max_iter: int) -> bool:
    return steps_done == max_iter or (period > 0 and steps_done % period == 0)
