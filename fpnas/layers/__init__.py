"""Leaf modules of the networks."""

from fpnas.layers.conv import (
    ACTIVATIONS,
    BN_EPS,
    GATES,
    PADDINGS,
    ConvBNAct,
    SamePad,
    SplitAttention,
    build_activation,
    build_gate,
    check_activation,
    check_gate,
    check_padding,
)
from fpnas.layers.shortcut import PaddedShortcut

__all__ = [
    "ACTIVATIONS",
    "BN_EPS",
    "GATES",
    "PADDINGS",
    "ConvBNAct",
    "PaddedShortcut",
    "SamePad",
    "SplitAttention",
    "build_activation",
    "build_gate",
    "check_activation",
    "check_gate",
    "check_padding",
]
