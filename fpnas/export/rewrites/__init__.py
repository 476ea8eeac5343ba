"""Exactly equivalent rewrites that make an exported graph faster in its runtime."""

from fpnas.export.rewrites.table import (
    AUTO,
    PHONE,
    REWRITES,
    Rewrite,
    apply_rewrites,
    expand_rewrites,
)

__all__ = ["AUTO", "PHONE", "REWRITES", "Rewrite", "apply_rewrites", "expand_rewrites"]
