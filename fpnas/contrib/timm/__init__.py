"""Architectures from and to timm's block strings; timm itself is not needed."""

from fpnas.contrib.timm.reading import from_timm
from fpnas.contrib.timm.writing import to_timm

__all__ = ["from_timm", "to_timm"]
