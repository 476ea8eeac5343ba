"""Reports that a person wants to look at: drawings of architectures, searches and trainings."""

from fpnas.report.drawing import draw_architecture
from fpnas.report.search import write_search_report

__all__ = ["draw_architecture", "write_search_report"]
