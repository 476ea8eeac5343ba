"""Training and evaluation of classifiers, and what other trainings share with it."""

from fpnas.training.artifact import TrainedNet, load_trained
from fpnas.training.classifier import Classifier
from fpnas.training.model_trainer import ModelTrainer
from fpnas.training.normalisation import normalisation_notes
from fpnas.training.run import run_evaluation, run_training
from fpnas.training.standard_hooks import standard_hooks
from fpnas.training.trainer import ClassificationTrainer

__all__ = [
    "ClassificationTrainer",
    "Classifier",
    "ModelTrainer",
    "TrainedNet",
    "load_trained",
    "normalisation_notes",
    "run_evaluation",
    "run_training",
    "standard_hooks",
]
