"""Inner channels of MBConv filled up with zeros to a multiple of 16.

ONNX Runtime keeps feature maps in blocks of 16 channels on CPUs with AVX-512 (8 with AVX2) and
leaves that layout for a depthwise convolution whose channels do not fill their blocks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fpnas.blocks import MBConv
from fpnas.export.rewrites.modules import conv_with
from fpnas.layers import ConvBNAct, SplitAttention

BLOCK = 16


def pad_channels(network: nn.Module) -> None:
    """Pad every MBConv that expands its input; the input of the others is not theirs to pad."""
    for block in network.modules():
        if type(block) is MBConv and _can_be_padded(block):
            _pad(block, -block.depthwise.conv.in_channels % BLOCK)


def _can_be_padded(block: MBConv) -> bool:
    """Whether added channels stay 0: folded BatchNorms, and activations with f(0) = 0."""
    inner = (block.expand, block.depthwise)
    return (
        all(type(unit) is ConvBNAct and isinstance(unit.bn, nn.Identity) for unit in inner)
        and all(float(unit.act(torch.zeros(1))) == 0 for unit in inner)
        and type(block.attention) in (nn.Identity, SplitAttention)
    )


def _pad(block: MBConv, extra: int) -> None:
    """Add ``extra`` inner channels behind the others. All their weights are 0, so what they hold
    is 0 (the gate of 0.5 multiplies a 0) and they add nothing to the projection.
    """
    if extra == 0:
        return
    inner = block.depthwise.conv.in_channels
    splits = block.depthwise.conv.out_channels // inner
    block.expand.conv = _padded(block.expand.conv, out=extra)
    block.depthwise.conv = _padded(block.depthwise.conv, out=extra * splits, groups=inner + extra)
    if isinstance(block.attention, SplitAttention):
        block.attention.fc1 = _padded(block.attention.fc1, into=extra)
        block.attention.fc2 = _padded(block.attention.fc2, out=extra * splits)
    block.project.conv = _padded(block.project.conv, into=extra)


def _padded(conv: nn.Conv2d, into: int = 0, out: int = 0, groups: int = 1) -> nn.Conv2d:
    """``conv`` with ``into`` more input and ``out`` more output channels, all weights 0."""
    weight: Tensor = F.pad(conv.weight, (0, 0, 0, 0, 0, into, 0, out))
    bias = None if conv.bias is None else F.pad(conv.bias, (0, out))
    return conv_with(conv, weight, bias, groups)
