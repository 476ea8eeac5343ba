"""Pages that a person wants to look at: drawings, figures, tables, and the report of a training."""

from fpnas.report.drawing import draw_architecture
from fpnas.report.training import write_training_report

__all__ = ["draw_architecture", "write_training_report"]
