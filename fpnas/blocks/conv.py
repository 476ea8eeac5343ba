"""Plain blocks: the stem, the skip that a kernel of size 0 stands for, and the classifier heads."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from fpnas.blocks.spec import (
    BLOCK_REGISTRY,
    BlockSpec,
    Cost,
    check_flag,
    check_ratio,
    check_whole,
    output_size,
    round_channels,
)
from fpnas.errors import ConfigError
from fpnas.layers import ConvBNAct, build_activation, check_activation, check_padding


@BLOCK_REGISTRY.register(name="Conv")
@dataclass(frozen=True)
class ConvSpec(BlockSpec):
    """``conv kernel x kernel (stride) -> BN -> act``; ``padding`` as in :class:`ConvBNAct`."""

    rare_fields: ClassVar[tuple[str, ...]] = ("padding",)

    channels: int
    kernel: int = 3
    stride: int = 1
    act: str = "swish"
    padding: str = "symmetric"

    def __post_init__(self) -> None:
        check_whole(self, channels=1, kernel=1, stride=1)
        check_activation(self.act)
        if self.kernel % 2 == 0:
            raise ConfigError(f"ConvSpec.kernel must be odd, found {self.kernel}.")
        check_padding(self.padding, self.kernel, self.stride)

    def cost(self, in_channels: int, height: int, width: int) -> Cost:
        weights = self.kernel**2 * in_channels * self.channels
        area = output_size(height, self.stride) * output_size(width, self.stride)
        return Cost(weights * area, weights)

    def build(self, in_channels: int) -> nn.Module:
        return ConvBNAct(
            in_channels,
            self.channels,
            self.kernel,
            self.stride,
            act=self.act,
            padding=self.padding,
        )


@BLOCK_REGISTRY.register(name="Skip")
@dataclass(frozen=True)
class SkipSpec(BlockSpec):
    """The identity where shapes agree, otherwise one ``conv 1x1 (stride) -> BN -> ReLU``.

    It lets a search vary the depth (Table 2, "choice 0 means we use a skip connection").
    """

    channels: int
    stride: int = 1

    def __post_init__(self) -> None:
        check_whole(self, channels=1, stride=1)

    def is_identity(self, in_channels: int) -> bool:
        return self.keeps_shape(in_channels)

    def cost(self, in_channels: int, height: int, width: int) -> Cost:
        if self.is_identity(in_channels):
            return Cost(0, 0)
        weights = in_channels * self.channels
        area = output_size(height, self.stride) * output_size(width, self.stride)
        return Cost(weights * area, weights)

    def build(self, in_channels: int) -> nn.Module:
        return nn.Identity() if self.is_identity(in_channels) else self.build_largest(in_channels)

    def build_largest(self, in_channels: int) -> nn.Module:
        """Always the convolution: smaller channel choices may differ where the largest agree."""
        return ConvBNAct(in_channels, self.channels, 1, self.stride, act="relu")


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


@BLOCK_REGISTRY.register(name="PooledHead")
@dataclass(frozen=True)
class PooledHeadSpec(BlockSpec):
    """``conv 1x1 -> BN -> act -> average pool -> conv 1x1 -> act -> dropout -> fc``.

    ``[N, C, H, W] -> [N, classes]``. The wide second convolution sees one pixel only, which makes
    it nearly free in multiply-adds. It has no BatchNorm.

    Attributes:
        channels: width of the second convolution, the features of the classifier.
        num_classes: outputs.
        expansion: width of the first convolution over input channels, rounded to a multiple of 8.
        act: activation after both convolutions.
        bias: whether the second convolution has one, as in MobileNetV3.
    """

    rare_fields: ClassVar[tuple[str, ...]] = ("bias",)
    stride: ClassVar[int] = 1

    channels: int
    num_classes: int
    expansion: float = 6.0
    act: str = "hswish"
    bias: bool = False

    def __post_init__(self) -> None:
        check_whole(self, channels=1, num_classes=1)
        check_activation(self.act)
        check_ratio(self, "expansion")
        check_flag(self, "bias")

    def inner_channels(self, in_channels: int) -> int:
        return round_channels(in_channels * self.expansion)

    def cost(self, in_channels: int, height: int, width: int) -> Cost:
        inner = self.inner_channels(in_channels)
        conv, pooled = in_channels * inner, inner * self.channels + self.channels * self.num_classes
        return Cost(conv * height * width + pooled, conv + pooled)

    def build(self, in_channels: int) -> nn.Module:
        inner = self.inner_channels(in_channels)
        return nn.Sequential(
            OrderedDict(
                expand=ConvBNAct(in_channels, inner, 1, act=self.act),
                pool=nn.AdaptiveAvgPool2d(1),
                widen=nn.Conv2d(inner, self.channels, 1, bias=self.bias),
                act=build_activation(self.act),
                flatten=nn.Flatten(1),
                dropout=nn.Dropout(0.0),  # the network sets the rate
                fc=nn.Linear(self.channels, self.num_classes),
            )
        )
