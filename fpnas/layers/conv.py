"""What blocks are made of: activations, convolution with BatchNorm, attention over channels."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fpnas.errors import ConfigError, check_known

# Not in place: the caller may need the input, and autograd needs that of Swish.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "swish": nn.SiLU,
    "hswish": nn.Hardswish,
}

# What maps any number to a factor between 0 and 1.
GATES: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "hsigmoid": nn.Hardsigmoid,
}


def check_activation(name: str) -> None:
    """Raise ConfigError unless ``name`` is a key of ACTIVATIONS."""
    check_known(name, ACTIVATIONS, f"Unknown activation '{name}'", ConfigError)


def check_gate(name: str) -> None:
    """Raise ConfigError unless ``name`` is a key of GATES."""
    check_known(name, GATES, f"Unknown gate '{name}'", ConfigError)


def build_activation(name: str) -> nn.Module:
    """The activation called ``name``. Raises ConfigError on an unknown name."""
    check_activation(name)
    return ACTIVATIONS[name]()


def build_gate(name: str) -> nn.Module:
    """The gate called ``name``. Raises ConfigError on an unknown name."""
    check_gate(name)
    return GATES[name]()


PADDINGS = ("symmetric", "same")

BN_EPS = 1e-5  # PyTorch's, what a BatchNorm adds to the variance


class ConvBNAct(nn.Sequential):
    """``conv -> bn -> act`` on ``[N, C, H, W]``; ``act=None`` leaves the activation out.

    The convolution has no bias and pads with zeros so that the output has ``(H - 1) // stride + 1``
    rows: ``kernel // 2`` on each side, or with ``padding="same"`` as TensorFlow does
    (:class:`SamePad`).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        act: str | None = None,
        padding: str = "symmetric",
    ) -> None:
        super().__init__()
        margin = kernel // 2
        if padding == "same" and stride > 1 and kernel > 1:  # otherwise both paddings are the same
            self.pad = SamePad(kernel, stride)
            margin = 0
        conv = PointwiseConv if kernel == 1 and stride > 1 else nn.Conv2d
        self.conv = conv(
            in_channels, out_channels, kernel, stride, margin, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)
        if act is not None:
            self.act = build_activation(act)
            if isinstance(self.act, (nn.ReLU, nn.ReLU6)):
                # Nobody else reads BatchNorm's output; saves 4 % of a training step on a CPU.
                self.act.inplace = True


class PointwiseConv(nn.Conv2d):
    """A 1x1 convolution, which for a gradient drops the pixels that it steps over beforehand.

    oneDNN's weight gradient of a strided 1x1 convolution of fewer than 16 channels writes beyond
    its memory on CPUs with AVX-512 (8 to 16 channels, stride 2, 64 px; PyTorch 2.14).
    """

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return self._conv_forward(x, self.weight, self.bias)
        x = x[:, :, :: self.stride[0], :: self.stride[1]]
        return F.conv2d(x, self.weight, self.bias, groups=self.groups)


class SamePad(nn.Module):
    """Zeros around ``[N, C, H, W]`` for a convolution of this kernel and stride, as in TensorFlow.

    As few as an output of ``(H - 1) // stride + 1`` rows needs; of an odd number the larger half
    goes below and to the right. The number depends on the size of the input: a 3x3 convolution of
    stride 2 pads even sizes on one side only.
    """

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        # Plain arithmetic, without branches or max(): it is traced and exported with any size.
        height = self.kernel - 1 - (x.shape[2] - 1) % self.stride
        width = self.kernel - 1 - (x.shape[3] - 1) % self.stride
        return F.pad(x, [width // 2, width - width // 2, height // 2, height - height // 2])


def check_padding(padding: str, kernel: int, stride: int) -> None:
    """Raise ConfigError unless ``padding`` is one of PADDINGS and fits kernel and stride.

    "same" needs a kernel that leaves no gaps, ``kernel >= stride``, or one of a single pixel.
    """
    check_known(padding, PADDINGS, f"padding is {padding!r}", ConfigError)
    if padding == "same" and 1 < kernel < stride:
        raise ConfigError(
            f"padding 'same' needs a kernel of 1 or of at least the stride, found kernel {kernel} "
            f"and stride {stride}."
        )


class SplitAttention(nn.Module):
    """Weighs R splits of a feature map against each other, channel by channel.

    ``[N, C * R, H, W] -> [N, C, H, W]``. The splits of a channel are neighbours: feature
    ``c * R + r`` is split r of channel c, the order in which a depthwise convolution with channel
    multiplier R writes them. Gates come from the globally pooled sum of the splits through two
    fully connected layers (``C -> hidden``, ``act``, ``hidden -> C * R``); they are a softmax over
    the R splits, or the sigmoid-like ``gate`` for R = 1, which makes that case exactly
    Squeeze-Excite.

    Source: Figure 2 of the paper; ResNeSt (Zhang et al. 2020) without its cardinal groups.
    """

    def __init__(
        self, channels: int, hidden: int, splits: int, act: str = "relu", gate: str = "sigmoid"
    ) -> None:
        super().__init__()
        self.splits = splits
        # 1x1 convolutions on the pooled map: the same sums as linear layers, no reshapes.
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.act = build_activation(act)
        self.fc2 = nn.Conv2d(hidden, channels * splits, 1)
        self.gate = build_gate(gate) if splits == 1 else nn.Softmax(2)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        if self.splits == 1:
            return x * self.gate(self.fc2(self.act(self.fc1(self.pool(x)))))
        splits = x.unflatten(1, [-1, self.splits])  # [N, C, R, H, W]
        # Pooling is linear, so the pooled sum of the splits is the sum of the pooled splits.
        pooled = self.pool(x).unflatten(1, [-1, self.splits]).sum(2)  # [N, C, 1, 1]
        logits = self.fc2(self.act(self.fc1(pooled))).unflatten(1, [-1, self.splits])
        return (splits * self.gate(logits)).sum(2)
