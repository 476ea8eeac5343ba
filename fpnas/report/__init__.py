"""Pages that a person wants to look at: drawings of architectures, figures, tables."""

from fpnas.report.drawing import draw_architecture

__all__ = ["draw_architecture"]
