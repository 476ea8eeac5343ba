"""MBConv blocks with the channels, branches and gates that ONNX Runtime computes fastest.

Its CPU kernels keep feature maps in blocks of channels and reorder them wherever an operator does
not take that layout; each of these rewrites avoids such places.
"""

from __future__ import annotations

from functools import reduce
from operator import add

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fpnas.blocks import MBConv
from fpnas.export.rewrites.modules import conv_with, replace_modules
from fpnas.export.rewrites.operators import fill_map
from fpnas.layers import ConvBNAct, SplitAttention

# Channels of a vector, to which inner channels are filled up.
BLOCK = 16


def pad_channels(network: nn.Module) -> None:
    """Fill inner channels of MBConv up with zeros to a multiple of 16.

    ONNX Runtime keeps feature maps in blocks of 16 channels on CPUs with AVX-512 (8 with AVX2) and
    leaves that layout for a depthwise convolution whose channels do not fill their blocks. The
    input of an MBConv that does not expand it is not the block's to pad.
    """
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


def split_branches(network: nn.Module) -> None:
    """Write Split-Attention of two or more splits as one branch a split.

    A depthwise convolution with channel multiplier R, and the five-dimensional view of its output,
    run outside of ONNX Runtime's blocked channel layout. R plain depthwise convolutions run inside
    it.
    """
    for block in network.modules():
        if type(block) is MBConv and _is_splittable(block):
            block.attention = BranchedAttention(block.depthwise, block.attention)
            block.depthwise = nn.Identity()


def _is_splittable(block: MBConv) -> bool:
    return (
        type(block.attention) is SplitAttention
        and block.attention.splits > 1
        and type(block.depthwise) is ConvBNAct
        and isinstance(block.depthwise.bn, nn.Identity)
    )


class BranchedAttention(nn.Module):
    """Depthwise convolution and Split-Attention: ``[N, C, H, W] -> [N, C, H', W']``.

    Args:
        depthwise: ``C -> C * R`` channels with folded BatchNorm, feature ``c * R + r`` for split r.
        attention: of R >= 2 splits.
    """

    def __init__(self, depthwise: ConvBNAct, attention: SplitAttention) -> None:
        super().__init__()
        splits = attention.splits
        conv = depthwise.conv
        self.pad = getattr(depthwise, "pad", nn.Identity())
        self.branches = nn.ModuleList(
            nn.Sequential(
                conv_with(conv, conv.weight[r::splits], _part(conv.bias, r, splits), conv.groups),
                depthwise.act,
            )
            for r in range(splits)
        )
        self.pool = attention.pool
        self.fc1 = attention.fc1
        self.act = attention.act
        self.gates = (PairOfGates if splits == 2 else Gates)(attention.fc2, splits)
        self.scale = PlainScale()

    def forward(self, x: Tensor) -> Tensor:
        x = self.pad(x)
        maps = [branch(x) for branch in self.branches]
        # The built-in sum starts from a 0, which would be an operator of its own.
        pooled = reduce(add, map(self.pool, maps))
        gates = self.gates(self.act(self.fc1(pooled)))
        return reduce(add, map(self.scale, maps, gates))


class PairOfGates(nn.Module):
    """Gates of two splits from the hidden layer ``[N, hidden, 1, 1]``, each ``[N, C, 1, 1]``.

    A softmax over two numbers is a sigmoid of their difference, which is a linear layer, too.
    """

    def __init__(self, fc2: nn.Conv2d, splits: int) -> None:
        super().__init__()
        weight = fc2.weight[0::2] - fc2.weight[1::2]
        bias = fc2.bias[0::2] - fc2.bias[1::2]
        self.first = conv_with(fc2, weight, bias)
        self.second = conv_with(fc2, -weight, -bias)

    def forward(self, hidden: Tensor) -> list[Tensor]:
        return [self.first(hidden).sigmoid(), self.second(hidden).sigmoid()]


class Gates(nn.Module):
    """Gates of R splits from the hidden layer ``[N, hidden, 1, 1]``, each ``[N, C, 1, 1]``."""

    def __init__(self, fc2: nn.Conv2d, splits: int) -> None:
        super().__init__()
        self.splits = splits
        by_split = torch.arange(fc2.out_channels).view(-1, splits).t().flatten()
        self.fc2 = conv_with(fc2, fc2.weight[by_split], fc2.bias[by_split])

    def forward(self, hidden: Tensor) -> list[Tensor]:
        gates = self.fc2(hidden).unflatten(1, (self.splits, -1)).softmax(1).flatten(1, 2)
        # A pool over one pixel changes nothing. It brings the gate into the layout of the maps.
        return [F.avg_pool2d(gate, 1) for gate in gates.chunk(self.splits, 1)]


def _part(bias: Tensor | None, split: int, splits: int) -> Tensor | None:
    return None if bias is None else bias[split::splits]


def resize_gates(network: nn.Module) -> None:
    """Bring gates to the size of their map before the multiplication.

    ONNX Runtime multiplies in its blocked channel layout only where both shapes are equal, and
    leaves it for a Mul that broadcasts. In int8 the plain Mul is the faster one. Rewrites
    Squeeze-Excite, and what :func:`split_branches` made of Split-Attention.
    """
    replace_modules(
        network,
        SplitAttention,
        lambda module: ScaledSqueezeExcite(module) if module.splits == 1 else module,
    )
    replace_modules(network, PlainScale, lambda _: ResizedScale())


class PlainScale(nn.Module):
    """Map ``[N, C, H, W]`` times gate ``[N, C, 1, 1]``, by broadcasting."""

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        return x * gate


class ResizedScale(nn.Module):
    """Map ``[N, C, H, W]`` times gate ``[N, C, 1, 1]``, which is written out as a map first."""

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        return x * fill_map(gate, x.shape[2], x.shape[3])


class ScaledSqueezeExcite(nn.Module):
    """Split-Attention of one split with :class:`ResizedScale`: ``[N, C, H, W] -> [N, C, H, W]``."""

    def __init__(self, attention: SplitAttention) -> None:
        super().__init__()
        self.pool = attention.pool
        self.fc1, self.act, self.fc2 = attention.fc1, attention.act, attention.fc2
        self.gate = attention.gate
        self.scale = ResizedScale()

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(x, self.gate(self.fc2(self.act(self.fc1(self.pool(x))))))
