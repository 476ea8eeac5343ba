"""MBConv: the inverted residual block with searchable Split-Attention (Figure 2 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from fpnas.blocks.channels import Numbers, round_channels
from fpnas.blocks.skip import SkipSpec
from fpnas.blocks.spec import (
    BLOCK_REGISTRY,
    BlockSpec,
    Cost,
    check_ratio,
    check_whole,
    output_size,
)
from fpnas.errors import ConfigError
from fpnas.layers import ConvBNAct, SplitAttention, check_activation

SPLITS = (0, 1, 2, 4)


@BLOCK_REGISTRY.register(name="MBConv")
@dataclass(frozen=True)
class MBConvSpec(BlockSpec):
    """Expand, depthwise convolution, attention, project.

    Attributes:
        channels: output channels.
        stride: of the depthwise convolution.
        kernel: side of the depthwise kernel, odd.
        expansion: inner channels over input channels, rounded to a multiple of 8; 1 leaves the
            expanding convolution out.
        act: activation after the expanding and the depthwise convolution.
        splits: of the attention: 0 none, 1 Squeeze-Excite, 2 or 4 Split-Attention.
    """

    channels: int
    stride: int = 1
    kernel: int = 3
    expansion: float = 6.0
    act: str = "relu"
    splits: int = 0

    def __post_init__(self) -> None:
        check_whole(self, channels=1, stride=1, kernel=1)
        check_activation(self.act)
        if self.kernel % 2 == 0:
            raise ConfigError(f"MBConvSpec.kernel must be odd, found {self.kernel}.")
        if type(self.splits) is not int or self.splits not in SPLITS:
            raise ConfigError(f"MBConvSpec.splits must be one of {SPLITS}, found {self.splits!r}.")
        check_ratio(self, "expansion")

    def inner_channels(self, in_channels: int) -> int:
        return in_channels if self.expansion == 1 else round_channels(in_channels * self.expansion)

    def cost(self, in_channels: int, height: int, width: int) -> Cost:
        return _mbconv_cost(
            in_channels=in_channels,
            inner=self.inner_channels(in_channels),
            channels=self.channels,
            kernel=self.kernel,
            splits=self.splits,
            expands=int(self.expansion != 1),
            in_area=height * width,
            out_area=output_size(height, self.stride) * output_size(width, self.stride),
        )

    def build(self, in_channels: int) -> nn.Module:
        return MBConv(self, in_channels)

    def weight_group(self, parameter: str, sharing: str) -> str:
        """Kernel sizes and numbers of splits have weights of their own, activations do not.

        With ``sharing="pointwise"`` the 1x1 convolutions belong to all choices of the block.
        """
        if sharing == "pointwise" and parameter.startswith(("expand.", "project.")):
            return "shared"
        return f"kernel{self.kernel},splits{self.splits}"

    @classmethod
    def from_choice(cls, **fields: Any) -> BlockSpec:
        """Kernel 0 chooses :class:`SkipSpec`, for which only channels and stride matter."""
        if fields["kernel"] == 0:
            return SkipSpec(channels=fields["channels"], stride=fields["stride"])
        return cls(**fields)

    @classmethod
    def batch_cost(
        cls, fields: Mapping[str, Tensor | Any], in_channels: Tensor, height: int, width: int
    ) -> Cost:
        channels, stride = fields["channels"], int(fields["stride"][0])
        expands = fields["expansion"] != 1
        inner = torch.where(expands, round_channels(in_channels * fields["expansion"]), in_channels)
        out_area = output_size(height, stride) * output_size(width, stride)
        mbconv = _mbconv_cost(
            in_channels=in_channels,
            inner=inner,
            channels=channels,
            kernel=fields["kernel"],
            splits=fields["splits"],
            expands=expands.long(),
            in_area=height * width,
            out_area=out_area,
        )
        skip_params = in_channels * channels
        if stride == 1:
            skip_params = skip_params * (in_channels != channels)
        skipped = fields["kernel"] == 0
        return Cost(
            torch.where(skipped, skip_params * out_area, mbconv.flops),
            torch.where(skipped, skip_params, mbconv.params),
        )


def _mbconv_cost(
    *,
    in_channels: Numbers,
    inner: Numbers,
    channels: Numbers,
    kernel: Numbers,
    splits: Numbers,
    expands: Numbers,
    in_area: int,
    out_area: int,
) -> Cost:
    """The block's cost in arithmetic that serves one block (int) and K blocks (LongTensor)."""
    attends = (splits > 0) * 1
    hidden = round_channels(inner // 4)
    expand = in_channels * inner * expands
    depthwise = kernel * kernel * inner * (splits + 1 - attends)  # max(splits, 1)
    attention = inner * hidden * (1 + splits) * attends
    project = inner * channels
    return Cost(
        flops=expand * in_area + (depthwise + project) * out_area + attention,
        params=expand + depthwise + attention + project,
    )


class MBConv(nn.Module):
    """``[N, in_channels, H, W] -> [N, channels, (H - 1) // stride + 1, ...]``.

    expand 1x1-BN-act -> depthwise kxk-BN-act (R-fold channels) -> attention -> project 1x1-BN,
    plus the input where stride is 1 and channels agree.
    """

    def __init__(self, spec: MBConvSpec, in_channels: int) -> None:
        super().__init__()
        inner = spec.inner_channels(in_channels)
        widened = inner * max(spec.splits, 1)
        self.expand = (
            ConvBNAct(in_channels, inner, 1, act=spec.act) if spec.expansion != 1 else nn.Identity()
        )
        self.depthwise = ConvBNAct(
            inner, widened, spec.kernel, spec.stride, groups=inner, act=spec.act
        )
        self.attention = (
            SplitAttention(inner, round_channels(inner // 4), spec.splits)
            if spec.splits
            else nn.Identity()
        )
        self.project = ConvBNAct(inner, spec.channels, 1)
        self.has_shortcut = spec.stride == 1 and in_channels == spec.channels
        if self.has_shortcut:
            self.drop_path = StochasticDepth(0.0, "row")  # the network sets the rate

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.attention(self.depthwise(self.expand(x))))
        return x + self.drop_path(out) if self.has_shortcut else out
