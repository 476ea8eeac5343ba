"""Leaf modules of the networks."""

from fpnas.layers.activation import ACTIVATIONS, build_activation, check_activation
from fpnas.layers.conv import ConvBNAct
from fpnas.layers.split_attention import SplitAttention

__all__ = ["ACTIVATIONS", "ConvBNAct", "SplitAttention", "build_activation", "check_activation"]
