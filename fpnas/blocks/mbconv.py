"""MBConv: the inverted residual block with searchable Split-Attention (Figure 2 of the paper)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from fpnas.blocks.conv import SkipSpec
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
from fpnas.errors import ConfigError, check_known
from fpnas.layers import (
    ConvBNAct,
    PaddedShortcut,
    SplitAttention,
    check_activation,
    check_gate,
    check_padding,
)

SPLITS = (0, 1, 2, 4)
SHORTCUTS = ("equal", "always", "never")
SOURCES = ("expanded", "input")


@dataclass(frozen=True)
class Attention:
    """Conventions of Squeeze-Excite and Split-Attention, in which the published families differ.

    The defaults are those of the paper's search spaces.

    Attributes:
        of: the channels whose number gives the hidden layer's width: "expanded" or "input".
        ratio: width over that number, cut to a whole number ...
        divisor: ... and then rounded to a multiple of this.
        act: activation of the hidden layer; "block" is that of the block.
        gate: function that ends the gate of a single split; several splits have a softmax.
    """

    of: str = "expanded"
    ratio: float = 0.25
    divisor: int = 8
    act: str = "relu"
    gate: str = "sigmoid"

    def __post_init__(self) -> None:
        if self.act != "block":
            check_activation(self.act)
        check_gate(self.gate)
        check_known(self.of, SOURCES, f"Attention.of is {self.of!r}", ConfigError)
        check_ratio(self, "ratio")
        check_whole(self, divisor=1)

    def hidden_channels(self, in_channels: int, inner: int) -> int:
        """Width of the hidden layer."""
        base = inner if self.of == "expanded" else in_channels
        return round_channels(int(base * self.ratio), self.divisor)

    def build(self, in_channels: int, inner: int, splits: int, block_act: str) -> SplitAttention:
        """The module for ``splits`` splits of ``inner`` channels each."""
        hidden = self.hidden_channels(in_channels, inner)
        act = block_act if self.act == "block" else self.act
        return SplitAttention(inner, hidden, splits, act=act, gate=self.gate)


PAPER_ATTENTION = Attention()


@BLOCK_REGISTRY.register(name="MBConv")
@dataclass(frozen=True)
class MBConvSpec(BlockSpec):
    """Expand, depthwise convolution, attention, project.

    Attributes:
        channels: output channels.
        stride: of the depthwise convolution.
        kernel: side of the depthwise kernel, odd.
        expansion: inner channels over input channels, rounded to a multiple of 8; 1 leaves the
            expanding convolution out, unless ``always_expand``.
        act: activation after the expanding and the depthwise convolution.
        splits: of the attention: 0 none, 1 Squeeze-Excite, 2 or 4 Split-Attention.
        attention: conventions of the attention, if there is one.
        padding: of the depthwise convolution, as in :class:`ConvBNAct`.
        always_expand: keep the expanding convolution even at expansion 1, as FBNet does.
        shortcut: "equal" adds the input where its shape is the output's, as the paper does;
            "always" adds it everywhere, as :class:`PaddedShortcut`; "never" nowhere.
    """

    rare_fields: ClassVar[tuple[str, ...]] = ("attention", "padding", "always_expand", "shortcut")

    channels: int
    stride: int = 1
    kernel: int = 3
    expansion: float = 6.0
    act: str = "relu"
    splits: int = 0
    attention: Attention = PAPER_ATTENTION
    padding: str = "symmetric"
    always_expand: bool = False
    shortcut: str = "equal"

    def __post_init__(self) -> None:
        check_whole(self, channels=1, stride=1, kernel=1)
        check_activation(self.act)
        if self.kernel % 2 == 0:
            raise ConfigError(f"MBConvSpec.kernel must be odd, found {self.kernel}.")
        if type(self.splits) is not int or self.splits not in SPLITS:
            raise ConfigError(f"MBConvSpec.splits must be one of {SPLITS}, found {self.splits!r}.")
        check_ratio(self, "expansion")
        if type(self.attention) is not Attention:
            raise ConfigError(
                f"MBConvSpec.attention must be an Attention, found {self.attention!r}."
            )
        check_padding(self.padding, self.kernel, self.stride)
        check_flag(self, "always_expand")
        unknown = f"MBConvSpec.shortcut is {self.shortcut!r}"
        check_known(self.shortcut, SHORTCUTS, unknown, ConfigError)
        if self.shortcut == "always" and self.padding != "symmetric":
            raise ConfigError(
                f"MBConvSpec.shortcut 'always' needs padding 'symmetric', found '{self.padding}': "
                "otherwise the means of its pixels do not lie where the convolution is."
            )

    @property
    def expands(self) -> bool:
        """Whether there is an expanding convolution."""
        return self.expansion != 1 or self.always_expand

    def inner_channels(self, in_channels: int) -> int:
        return in_channels if self.expansion == 1 else round_channels(in_channels * self.expansion)

    def cost(self, in_channels: int, height: int, width: int) -> Cost:
        inner = self.inner_channels(in_channels)
        expand = in_channels * inner if self.expands else 0
        depthwise = self.kernel**2 * inner * max(self.splits, 1)
        attention = 0
        if self.splits:
            hidden = self.attention.hidden_channels(in_channels, inner)
            attention = inner * hidden * (1 + self.splits)
        project = inner * self.channels
        out_area = output_size(height, self.stride) * output_size(width, self.stride)
        return Cost(
            flops=expand * height * width + (depthwise + project) * out_area + attention,
            params=expand + depthwise + attention + project,
        )

    def build(self, in_channels: int) -> nn.Module:
        return MBConv(self, in_channels)

    def weight_group(self, parameter: str, sharing: str) -> str:
        """Kernel sizes and numbers of splits have weights of their own, activations do not.

        With ``sharing="pointwise"`` the 1x1 convolutions belong to all choices of the block. With
        "all" a small kernel is, moreover, the centre of the largest one, and the depthwise
        convolution is the same with and without Squeeze-Excite; more splits have their own.
        """
        if sharing != "paper" and parameter.startswith(("expand.", "project.")):
            return "shared"
        if sharing == "all":
            is_depthwise = parameter.startswith("depthwise.")
            return f"splits{max(self.splits, 1) if is_depthwise else self.splits}"
        return f"kernel{self.kernel},splits{self.splits}"

    @classmethod
    def from_choice(cls, **fields: Any) -> BlockSpec:
        """Kernel 0 chooses :class:`SkipSpec`, for which only channels and stride matter."""
        if fields["kernel"] == 0:
            return SkipSpec(channels=fields["channels"], stride=fields["stride"])
        return cls(**fields)


class MBConv(nn.Module):
    """``[N, in_channels, H, W] -> [N, channels, (H - 1) // stride + 1, ...]``.

    expand 1x1-BN-act -> depthwise kxk-BN-act (R-fold channels) -> attention -> project 1x1-BN,
    plus the input where stride is 1 and channels agree, or always (``MBConvSpec.shortcut``).
    """

    # So that TorchScript passes over a shortcut and a drop_path that are not there.
    __constants__ = ("has_shortcut",)

    def __init__(self, spec: MBConvSpec, in_channels: int) -> None:
        super().__init__()
        inner = spec.inner_channels(in_channels)
        widened = inner * max(spec.splits, 1)
        self.expand = (
            ConvBNAct(in_channels, inner, 1, act=spec.act) if spec.expands else nn.Identity()
        )
        self.depthwise = ConvBNAct(
            inner,
            widened,
            spec.kernel,
            spec.stride,
            groups=inner,
            act=spec.act,
            padding=spec.padding,
        )
        self.attention = (
            spec.attention.build(in_channels, inner, spec.splits, spec.act)
            if spec.splits
            else nn.Identity()
        )
        self.project = ConvBNAct(inner, spec.channels, 1)
        self.has_shortcut = spec.shortcut == "always" or (
            spec.shortcut == "equal" and spec.keeps_shape(in_channels)
        )
        if self.has_shortcut:
            self.shortcut = PaddedShortcut(in_channels, spec.channels, spec.stride)
            self.drop_path = StochasticDepth(0.0, "row")  # the network sets the rate

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.attention(self.depthwise(self.expand(x))))
        return self.shortcut(x, self.drop_path(out)) if self.has_shortcut else out
