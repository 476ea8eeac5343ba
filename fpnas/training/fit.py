"""A whole training, whatever its task: from the parts of the task to figures, with all files."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import nn

from fpnas.config import CfgNode
from fpnas.data import Fingerprint
from fpnas.engine import BestCheckpointHook, Run, begin_run, build_hooks, default_setup
from fpnas.training.artifact import SelfDescription, TrainingCheckpointer
from fpnas.training.trainer import ModelTrainer
from fpnas.utils import comm
from fpnas.utils.file_io import atomic_write
from fpnas.utils.rng import derive_seed

logger = logging.getLogger(__name__)


class Parts(NamedTuple):
    """What takes the steps of a training, and what judges them.

    Attributes:
        trainer: without hooks.
        iters_per_epoch: of its data.
        test: scores of a network on the images that it is not trained on. Called in all processes.
    """

    trainer: ModelTrainer
    iters_per_epoch: int
    test: Callable[[nn.Module], Mapping[str, float]]


@dataclass(frozen=True)
class Task:
    """What a training is, beside its config. All that can be refused quickly has been checked.

    Attributes:
        kind: of the run: "training", "detection", ...
        fingerprint: of its images; called in the main process.
        prepare: makes the parts. Called when OUTPUT_DIR is this run's, so that it may take long.
        split: "test" or "val": a score is put as "test_NAME".
        metric: the score that decides which weights model_best.pth has.
        shown: scalars that the console shows beside the losses.
        about: stands in every checkpoint; None: they hold the config and no more.
        data: what the images are, for the log.
        notes: on the weights that it starts from, for the log.
        files: name and text of further files in OUTPUT_DIR.
        figures: known beforehand, for the result.
    """

    kind: str
    fingerprint: Callable[[], Fingerprint]
    prepare: Callable[[], Parts]
    split: str
    metric: str
    shown: Sequence[str] = ()
    about: SelfDescription | None = None
    data: str = ""
    notes: Sequence[str] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)


def fit(
    cfg: CfgNode, task: Task, resume: bool = False, allow_changes: bool = False
) -> dict[str, Any]:
    """Train as ``cfg.SOLVER`` says and return the figures of the last evaluation.

    The files in OUTPUT_DIR, ``resume`` and ``allow_changes`` are as in
    :func:`fpnas.training.run_training`; a resumed run ends with the same bits as one that was never
    stopped. SOLVER, TEST, CHECKPOINT, LOG, SEED and OUTPUT_DIR are read. Call it in every process.

    Returns the scores after the last step, "best_METRIC" and "best_iteration" of model_best.pth,
    and the figures of the task.
    """
    with begin_run(
        cfg, task.kind, task.fingerprint, resume=resume, allow_changes=allow_changes
    ) as run:
        return _fit(cfg, task, run, argparse.Namespace(resume=resume, allow_changes=allow_changes))


def _fit(cfg: CfgNode, task: Task, run: Run, flags: argparse.Namespace) -> dict[str, Any]:
    """The run in its folder."""
    trainer, iters_per_epoch, test = task.prepare()
    max_iter = cfg.SOLVER.EPOCHS * iters_per_epoch
    checkpointer = TrainingCheckpointer(
        trainer.evaluated,
        cfg.OUTPUT_DIR,
        task.about,
        config=cfg.dump(),
        run=run.tag,
        trainer=trainer,
    )
    prefix = f"{task.split}_"
    best = BestCheckpointHook(checkpointer, f"{prefix}{task.metric}")
    hooks = build_hooks(
        cfg,
        trainer.optimizer,
        checkpointer,
        iters_per_epoch,
        max_iter,
        evaluate=lambda: {f"{prefix}{n}": value for n, value in test(trainer.evaluated).items()},
        best=best,
        shown=task.shown,
    )
    trainer.register_hooks(hooks)
    checkpointer.resume_or_load("", resume=flags.resume)
    default_setup(cfg, flags, run)
    logger.info("Data: %s", task.data)  # not before: now it reaches log.txt
    for note in task.notes:
        logger.warning(note)
    if comm.is_main_process():
        for name, text in task.files.items():
            (Path(cfg.OUTPUT_DIR) / name).write_text(text, encoding="utf-8")
    # Dropout and stochastic depth differ between the processes; the weights do not.
    torch.manual_seed(derive_seed(cfg.SEED, "training", comm.get_rank()))
    trainer.train(trainer.steps_done, max_iter)
    latest = trainer.storage.latest().items()
    result = {
        **{n.removeprefix(prefix): value for n, (value, _) in latest if n.startswith(prefix)},
        f"best_{task.metric}": best.best,
        "best_iteration": best.best_iteration,
        **task.figures,
    }
    if comm.is_main_process():
        with atomic_write(Path(cfg.OUTPUT_DIR) / "result.yaml") as file:
            file.write(yaml.safe_dump(result, sort_keys=False).encode())
        logger.info("Result: %s. Files: %s", as_text(result), cfg.OUTPUT_DIR)
    comm.synchronize()
    return result


def as_text(result: Mapping[str, Any]) -> str:
    """Figures in a line."""
    return "  ".join(
        f"{name}: {value:.5g}" if isinstance(value, float) else f"{name}: {value}"
        for name, value in result.items()
    )
