"""The loop of every run, its hooks, and the starting of processes."""

from fpnas.engine.defaults import (
    RUN_FILES,
    check_setup,
    default_setup,
)
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
from fpnas.engine.train_loop import HookBase, TrainerBase

__all__ = [
    "RUN_FILES",
    "BestCheckpointHook",
    "CheckpointHook",
    "EvalHook",
    "HookBase",
    "InterruptHook",
    "Interrupted",
    "IterationTimer",
    "LRSchedulerHook",
    "PeriodicWriter",
    "TrainerBase",
    "check_finite",
    "check_setup",
    "default_setup",
    "launch",
]
