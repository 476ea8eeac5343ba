"""Export of a trained network: one table of formats, each file checked on real images and timed."""

from fpnas.export.checked import export_backbone
from fpnas.export.formats import EXPORT_FORMATS, ExportFormat, get_formats
from fpnas.export.model import export_model
from fpnas.export.parity import Parity, Tolerance, compare
from fpnas.export.report import ExportReport, table
from fpnas.export.rewrites import REWRITES, Rewrite, apply_rewrites
from fpnas.export.rewrites.modules import fold_bn

__all__ = [
    "EXPORT_FORMATS",
    "REWRITES",
    "ExportFormat",
    "ExportReport",
    "Parity",
    "Rewrite",
    "Tolerance",
    "apply_rewrites",
    "compare",
    "export_backbone",
    "export_model",
    "fold_bn",
    "get_formats",
    "table",
]
