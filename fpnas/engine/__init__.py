"""The loop of every run, its hooks, and the starting of processes."""

from fpnas.engine.defaults import build_hooks, check_setup, default_setup
from fpnas.engine.hooks import (
    BestCheckpointHook,
    CheckpointHook,
    EvalHook,
    IterationTimer,
    LRSchedulerHook,
    PeriodicWriter,
    check_finite,
)
from fpnas.engine.interrupt import Interrupted, InterruptHook
from fpnas.engine.launch import launch
from fpnas.engine.run_folder import Run, begin_run, has_checkpoint
from fpnas.engine.train_loop import HookBase, TrainerBase

__all__ = [
    "BestCheckpointHook",
    "CheckpointHook",
    "EvalHook",
    "HookBase",
    "InterruptHook",
    "Interrupted",
    "IterationTimer",
    "LRSchedulerHook",
    "PeriodicWriter",
    "Run",
    "TrainerBase",
    "begin_run",
    "build_hooks",
    "check_finite",
    "check_setup",
    "default_setup",
    "has_checkpoint",
    "launch",
]
