"""What every run has: checks of its folder and seed, logging, seeds, config.yaml, its hooks."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch.optim import Optimizer

from fpnas.config import CfgNode
from fpnas.engine.hooks import (
    BestCheckpointHook,
    CheckpointHook,
    EvalHook,
    IterationTimer,
    LRSchedulerHook,
    PeriodicWriter,
    check_hooks_config,
)
from fpnas.engine.interrupt import InterruptHook
from fpnas.engine.run_folder import Run, unwritable
from fpnas.engine.train_loop import HookBase
from fpnas.errors import ConfigError
from fpnas.solver import build_schedule
from fpnas.utils import comm
from fpnas.utils.checkpoint import Checkpointer
from fpnas.utils.events import JSONWriter, MetricPrinter, ProgressBar, TensorBoardWriter
from fpnas.utils.file_io import atomic_write
from fpnas.utils.logger import setup_logger
from fpnas.utils.machine import environment_info
from fpnas.utils.rng import seed_all_rng

logger = logging.getLogger(__name__)


def check_setup(cfg: CfgNode) -> None:
    """Raise ConfigError if SEED or a period is out of range or OUTPUT_DIR seen not to be writable.

    Makes nothing. For runs whose preparation takes long; :func:`default_setup` calls it, too.
    """
    if not 0 <= cfg.SEED < 2**32:
        raise ConfigError(f"SEED must be in [0, 2^32), found {cfg.SEED}.")
    check_hooks_config(cfg)
    folder = Path(cfg.OUTPUT_DIR).absolute()
    nearest = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    if not nearest.is_dir():
        raise unwritable(cfg, f"{nearest} is no folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise unwritable(cfg, f"no permission to write into {nearest}")


def default_setup(cfg: CfgNode, args: argparse.Namespace, run: Run | None = None) -> None:
    """Prepare a run: output folder, logging, random seeds, config.yaml. Call it in every process.

    All processes get the same seed, hence the same initial weights. ``args`` may come from any
    parser; the log shows them. ``run``, of :func:`begin_run`, is settled: call this when a resumed
    run has its state.

    Raises ConfigError if OUTPUT_DIR cannot be written to or SEED is out of range.
    """
    check_setup(cfg)
    output_dir = Path(cfg.OUTPUT_DIR)
    config_file = output_dir / "config.yaml"
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        setup_logger(output_dir)
        logger.info("Environment:\n%s", environment_info())
        flags = {name: value for name, value in vars(args).items() if not callable(value)}
        logger.info("Flags: %s", ", ".join(f"{name}={value!r}" for name, value in flags.items()))
        if comm.is_main_process():
            with atomic_write(config_file) as file:
                file.write(cfg.dump().encode())
            logger.info("Config: %s", config_file)
        if run is not None:
            run.settle(output_dir)
            for note in run.notes:
                logger.warning(note)
    except OSError as error:
        raise unwritable(cfg, error.strerror) from None
    seed_all_rng(cfg.SEED)
    comm.synchronize()


def build_hooks(
    cfg: CfgNode,
    optimizer: Optimizer,
    checkpointer: Checkpointer,
    iters_per_epoch: int,
    max_iter: int,
    *,
    evaluate: Callable[[], Mapping[str, float]] | None = None,
    best: BestCheckpointHook | None = None,
    shown: Sequence[str] | None = (),
    every_step: bool = False,
) -> list[HookBase]:
    """What is done beside the steps: schedule, evaluation, logs, checkpoints; in their order.

    Args:
        cfg: SOLVER's schedule, TEST, CHECKPOINT and LOG are read.
        optimizer: whose learning rates are scheduled; as built, not restored.
        checkpointer: has the trainer among its checkpointables; metrics and TensorBoard's files go
            to its folder, too.
        iters_per_epoch: periods in the config are epochs.
        max_iter: steps of the run.
        evaluate: returns scalars of the test images; called in all processes. None: no evaluation.
        best: keeps the best weights by one of these.
        shown: names of scalars that the console shows beside the losses. None: metrics.json is all
            that is written.
        every_step: write each step to metrics.json, rather than one of LOG.PERIOD.
    """
    folder = Path(checkpointer.save_dir)
    records, summaries, bars = [JSONWriter(folder / "metrics.json")], [], []
    if shown is not None:
        summaries.append(MetricPrinter(max_iter, shown))
        bars.append(ProgressBar(max_iter, shown))
        if cfg.LOG.TENSORBOARD:
            summaries.append(TensorBoardWriter(folder / "tensorboard"))
    if every_step:
        writers = [(records + bars, 1), (summaries, cfg.LOG.PERIOD)]
    else:
        writers = [(records + summaries, cfg.LOG.PERIOD), (bars, 1)]
    evaluation = [] if evaluate is None else [EvalHook(cfg.TEST.PERIOD * iters_per_epoch, evaluate)]
    save = CheckpointHook(
        checkpointer, cfg.CHECKPOINT.PERIOD * iters_per_epoch, cfg.CHECKPOINT.KEEP
    )
    return [
        IterationTimer(),
        LRSchedulerHook(optimizer, build_schedule(cfg, iters_per_epoch)),
        *evaluation,
        *([] if best is None else [best]),
        *(PeriodicWriter(group, period) for group, period in writers if group),
        save,
        InterruptHook(save.save),
    ]
