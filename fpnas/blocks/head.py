"""The classifier head."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from fpnas.blocks.spec import BLOCK_REGISTRY, BlockSpec, Cost, check_whole
from fpnas.layers import ConvBNAct, check_activation


@BLOCK_REGISTRY.register(name="Head")
@dataclass(frozen=True)
class HeadSpec(BlockSpec):
    """``conv 1x1 -> BN -> act -> average pool -> dropout -> fc``: ``[N, C, H, W] -> [N, classes]``.

    The last three rows of Table 1. ``channels`` is the width of the convolution.
    """

    stride: ClassVar[int] = 1

    channels: int
    num_classes: int
    act: str = "swish"

    def __post_init__(self) -> None:
        check_whole(self, channels=1, num_classes=1)
        check_activation(self.act)

    def cost(self, in_channels: int, height: int, width: int) -> Cost:
        conv, fc = in_channels * self.channels, self.channels * self.num_classes
        return Cost(conv * height * width + fc, conv + fc)

    def build(self, in_channels: int) -> nn.Module:
        return nn.Sequential(
            OrderedDict(
                conv=ConvBNAct(in_channels, self.channels, 1, act=self.act),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(1),
                dropout=nn.Dropout(0.0),  # the network sets the rate
                fc=nn.Linear(self.channels, self.num_classes),
            )
        )
