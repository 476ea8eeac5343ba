"""Training and evaluation of classifiers."""

from fpnas.training.artifact import TrainedNet, load_trained
from fpnas.training.run import run_evaluation, run_training
from fpnas.training.trainer import ClassificationTrainer

__all__ = [
    "ClassificationTrainer",
    "TrainedNet",
    "load_trained",
    "run_evaluation",
    "run_training",
]
