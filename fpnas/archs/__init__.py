"""Architectures: networks described by numbers, and the named ones."""

from fpnas.archs.architecture import ARCH_REGISTRY, Architecture, Layer, get_arch

__all__ = ["ARCH_REGISTRY", "Architecture", "Layer", "get_arch"]
