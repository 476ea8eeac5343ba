"""Split-Attention as one branch a split.

A depthwise convolution with channel multiplier R, and the five-dimensional view of its output, run
outside of ONNX Runtime's blocked channel layout. R plain depthwise convolutions run inside it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fpnas.blocks import MBConv
from fpnas.export.rewrites.modules import conv_with
from fpnas.export.rewrites.resize_gates import PlainScale
from fpnas.layers import ConvBNAct, SplitAttention


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
        pooled = _sum([self.pool(branch) for branch in maps])
        gates = self.gates(self.act(self.fc1(pooled)))
        return _sum([self.scale(*pair) for pair in zip(maps, gates, strict=True)])


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


def split_branches(network: nn.Module) -> None:
    """Rewrite every MBConv with Split-Attention of two or more splits."""
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


def _part(bias: Tensor | None, split: int, splits: int) -> Tensor | None:
    return None if bias is None else bias[split::splits]


def _sum(tensors: list[Tensor]) -> Tensor:
    """Without the 0 that the built-in starts from, which would be an operator of its own."""
    total, *others = tensors
    for tensor in others:
        total = total + tensor
    return total
