"""Known networks at the size of 32 px images, to compare found ones with.

``mobilenetv2`` and ``mobilenetv3_small`` lose the strides of their first blocks and are made
narrower until they fit into a budget; ``resnet20`` is the network of He et al. 2016, section 4.2,
with a projection where the shape changes. Its two blocks are of no use to a phone, so they are
registered here: all that a block of one's own needs.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import nn
from torchvision.models.resnet import BasicBlock

from fpnas.archs import Architecture, get_arch
from fpnas.blocks import BLOCK_REGISTRY, BlockSpec, ConvSpec, Cost, output_size, round_channels
from fpnas.errors import BudgetError

# Strides of the stages at 32 px; the stem has stride 1. The last maps have 4 x 4 px.
_STRIDES = {
    "mobilenetv2": (1, 2, 2, 2, 1, 1, 1),
    "mobilenetv3_small": (1, 2, 2, 1, 2),
}
_CHANNEL_STEP = 4  # finer than the usual 8, or narrow networks would miss their budget by far
_WIDTHS = [width / 200 for width in range(400, 9, -1)]


@BLOCK_REGISTRY.register(name="ResNetBasic")
@dataclass(frozen=True)
class ResNetBasicSpec(BlockSpec):
    """torchvision's BasicBlock: two 3x3 convolutions and a shortcut."""

    channels: int
    stride: int = 1

    def _changes_shape(self, in_channels: int) -> bool:
        return self.stride > 1 or in_channels != self.channels

    def cost(self, in_channels: int, height: int, width: int) -> Cost:
        weights = 9 * self.channels * (in_channels + self.channels)
        if self._changes_shape(in_channels):
            weights += in_channels * self.channels
        area = output_size(height, self.stride) * output_size(width, self.stride)
        return Cost(weights * area, weights)

    def build(self, in_channels: int) -> nn.Module:
        projection = None
        if self._changes_shape(in_channels):
            conv = nn.Conv2d(in_channels, self.channels, 1, self.stride, bias=False)
            projection = nn.Sequential(conv, nn.BatchNorm2d(self.channels))
        return BasicBlock(in_channels, self.channels, self.stride, projection)


@BLOCK_REGISTRY.register(name="LinearHead")
@dataclass(frozen=True)
class LinearHeadSpec(BlockSpec):
    """``average pool -> fc``."""

    stride: ClassVar[int] = 1

    channels: int
    num_classes: int

    def cost(self, in_channels: int, height: int, width: int) -> Cost:
        return Cost(in_channels * self.num_classes, in_channels * self.num_classes)

    def build(self, in_channels: int) -> nn.Module:
        return nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(1),
                dropout=nn.Dropout(0.0),
                fc=nn.Linear(in_channels, self.num_classes),
            )
        )


def resnet20(input_size: int, num_classes: int) -> Architecture:
    """16, 32 and 64 channels, three blocks each; 41 MFLOPs at 32 px."""
    stages = tuple(
        (ResNetBasicSpec(channels, stride), ResNetBasicSpec(channels), ResNetBasicSpec(channels))
        for channels, stride in ((16, 1), (32, 2), (64, 2))
    )
    stem = ConvSpec(16, 3, 1, "relu")
    return Architecture("resnet20", input_size, stem, stages, LinearHeadSpec(64, num_classes))


def scaled(name: str, flops: float, input_size: int, num_classes: int) -> Architecture:
    """``mobilenetv2`` or ``mobilenetv3_small``, as wide as ``flops`` multiply-adds allow.

    Raises BudgetError if even the narrowest costs more.
    """
    base = get_arch(f"{name}_100").with_num_classes(num_classes)
    for width in _WIDTHS:
        arch = _narrowed(base, width, _STRIDES[name], input_size)
        if arch.flops() <= flops:
            return replace(arch, name=f"{name}-{flops / 1e6:g}m")
    raise BudgetError(f"{name} at {input_size} px costs more than {flops:.3g} FLOPs at any width.")


def _narrowed(
    base: Architecture, width: float, strides: tuple[int, ...], input_size: int
) -> Architecture:
    stages = tuple(
        tuple(
            replace(_with_width(block, width), stride=1 if index else stride)
            for index, block in enumerate(stage)
        )
        for stage, stride in zip(base.stages, strides, strict=True)
    )
    stem = replace(_with_width(base.stem, width), stride=1)
    head = _with_width(base.head, width)
    return replace(base, input_size=input_size, stem=stem, stages=stages, head=head)


def _with_width(block: BlockSpec, width: float) -> BlockSpec:
    return replace(block, channels=round_channels(block.channels * width, _CHANNEL_STEP))
