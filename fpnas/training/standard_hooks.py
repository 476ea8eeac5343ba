"""What is done beside the steps of every training: schedule, evaluation, logs, checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fpnas.config import CfgNode
from fpnas.engine import (
    BestCheckpointHook,
    CheckpointHook,
    EvalHook,
    HookBase,
    InterruptHook,
    IterationTimer,
    LRSchedulerHook,
    PeriodicWriter,
)
from fpnas.solver import build_schedule
from fpnas.training.model_trainer import ModelTrainer
from fpnas.utils.checkpoint import Checkpointer
from fpnas.utils.events import JSONWriter, MetricPrinter, ProgressBar, TensorBoardWriter


def standard_hooks(
    cfg: CfgNode,
    trainer: ModelTrainer,
    checkpointer: Checkpointer,
    iters_per_epoch: int,
    test: Callable[[], Mapping[str, float]],
    best: BestCheckpointHook,
    shown: Sequence[str],
) -> list[HookBase]:
    """The hooks of a training of ``cfg.SOLVER.EPOCHS`` epochs, in their order.

    Args:
        cfg: SOLVER, TEST, CHECKPOINT, LOG and OUTPUT_DIR are read.
        trainer: whose optimizer is scheduled.
        checkpointer: has ``trainer`` among its checkpointables.
        iters_per_epoch: periods in the config are epochs.
        test: returns scalars of the test images; called in all processes.
        best: keeps the best weights by one of these.
        shown: names of scalars that the log lines show beside the losses.
    """
    max_iter = cfg.SOLVER.EPOCHS * iters_per_epoch
    output_dir = Path(cfg.OUTPUT_DIR)
    writers = [JSONWriter(output_dir / "metrics.json"), MetricPrinter(max_iter, shown)]
    if cfg.LOG.TENSORBOARD:
        writers.append(TensorBoardWriter(output_dir / "tensorboard"))
    save = CheckpointHook(
        checkpointer, cfg.CHECKPOINT.PERIOD * iters_per_epoch, cfg.CHECKPOINT.KEEP
    )
    return [
        IterationTimer(),
        LRSchedulerHook(trainer.optimizer, build_schedule(cfg, iters_per_epoch)),
        EvalHook(cfg.TEST.PERIOD * iters_per_epoch, test),
        best,
        PeriodicWriter(writers, cfg.LOG.PERIOD),
        PeriodicWriter([ProgressBar(max_iter, shown)], period=1),
        save,
        InterruptHook(save.save),
    ]
