"""Blocks of one convolution: the stem, and the skip that a kernel of size 0 stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from fpnas.blocks.spec import BLOCK_REGISTRY, BlockSpec, Cost, check_whole, output_size
from fpnas.errors import ConfigError
from fpnas.layers import ConvBNAct, check_activation, check_padding


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
