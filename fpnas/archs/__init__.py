"""Architectures: networks described by numbers, and the named ones."""

from fpnas.archs.architecture import Architecture, Layer
from fpnas.archs.registry import ARCH_REGISTRY, get_arch

__all__ = ["ARCH_REGISTRY", "Architecture", "Layer", "get_arch"]
