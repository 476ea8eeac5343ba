"""Training and evaluation of classifiers, and what other trainings share with it."""

from fpnas.training.artifact import (
    Classifier,
    TrainedNet,
    load_network,
    load_trained,
    start_from_file,
)
from fpnas.training.fine_tuning import normalisation_notes
from fpnas.training.run import run_evaluation, run_training
from fpnas.training.trainer import ClassificationTrainer, ModelTrainer

__all__ = [
    "ClassificationTrainer",
    "Classifier",
    "ModelTrainer",
    "TrainedNet",
    "load_network",
    "load_trained",
    "normalisation_notes",
    "run_evaluation",
    "run_training",
    "start_from_file",
]
