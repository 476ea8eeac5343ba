"""Evaluation of trained networks."""

from fpnas.evaluation.accuracy import evaluate

__all__ = ["evaluate"]
