"""SearchedNet: an architecture as a network, and its initial weights."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torchvision.ops import StochasticDepth

from fpnas.archs import Architecture
from fpnas.blocks import BlockSpec
from fpnas.config.checks import check_value
from fpnas.layers import BN_EPS


def init_weights(module: nn.Module) -> nn.Module:
    """Initialise every layer inside ``module`` in place and return it.

    Convolutions: normal with variance 2 / fan-out, where the fan-out of a grouped convolution is
    that of one group. Linear layers: uniform within 1 / sqrt(max(inputs, outputs)), which keeps the
    first logits small however few classes there are. Both as in EfficientNet, whose linear layers,
    of 1000 classes, have about as many inputs as outputs.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            area = layer.kernel_size[0] * layer.kernel_size[1]
            fan_out = area * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / fan_out))
        elif isinstance(layer, nn.Linear):
            bound = 1.0 / math.sqrt(max(layer.in_features, layer.out_features))
            nn.init.uniform_(layer.weight, -bound, bound)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return module


def zero_init_residual(module: nn.Module) -> None:
    """Let a block with a shortcut start as that shortcut: its last BatchNorm's weight becomes 0.

    As in "Accurate, Large Minibatch SGD" (section 5.1), for ResNets, and in BigNAS, for supernets.
    """
    if getattr(module, "has_shortcut", False):
        nn.init.zeros_(module.project.bn.weight)


@contextmanager
def without_init() -> Iterator[None]:
    """Convolutions, linear layers and BatchNorms made inside keep whatever is in their memory.

    For modules whose weights are all replaced anyway: filling them takes more than half of the
    time of building a block.
    """
    fills = [(layer, layer.reset_parameters) for layer in (_ConvNd, nn.Linear, _NormBase)]
    try:
        for layer, _ in fills:
            layer.reset_parameters = lambda self: None
        yield
    finally:
        for layer, fill in fills:
            layer.reset_parameters = fill


# (name inside the network, block, channels that enter it) -> module
BuildBlock = Callable[[str, BlockSpec, int], nn.Module]


def build_block(name: str, block: BlockSpec, in_channels: int) -> nn.Module:
    """The block with fresh weights."""
    return init_weights(block.build(in_channels))


class SearchedNet(nn.Sequential):
    """``[N, in_channels, H, W] -> [N, num_classes]`` logits.

    The children ``stem``, ``stage1``, ``stage2``, ..., ``head`` stand flat and in order of
    execution; ``stage2`` holds the blocks ``0``, ``1``, ... of the second block group.

    Attributes:
        arch: the architecture.
    """

    def __init__(
        self,
        arch: Architecture,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        build: BuildBlock = build_block,
    ) -> None:
        """
        Args:
            arch: what to build.
            dropout: probability of zeroing a feature in front of the classifier.
            drop_path: stochastic depth, probability for the last block; it grows linearly with
                depth from 0 at the first block. Blocks without a shortcut are never dropped.
            build: makes each block's module.

        Raises ConfigError on a probability outside [0, 1).
        """
        super().__init__()
        for key, value in (("DROPOUT", dropout), ("DROP_PATH", drop_path)):
            check_value(f"MODEL.{key}", value, 0 <= value < 1, "0 or more, below 1")
        self.arch = arch
        modules = {name: build(name, block, c) for name, block, c in arch.named_blocks()}
        self.stem = modules["stem"]
        for s, stage in enumerate(arch.stages, start=1):
            blocks = [modules[f"stage{s}.{b}"] for b in range(len(stage))]
            self.add_module(f"stage{s}", nn.Sequential(*blocks))
        self.head = modules["head"]
        self._set_drop_rates(dropout, drop_path)
        if arch.bn_eps != BN_EPS:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eps = arch.bn_eps

    def __getitem__(self, index: int | slice) -> nn.Module:
        """A child, or a plain ``nn.Sequential`` of some: ``net[:-1]`` leaves the head out."""
        if isinstance(index, slice):
            return nn.Sequential(OrderedDict(list(self.named_children())[index]))
        return super().__getitem__(index)

    def _set_drop_rates(self, dropout: float, drop_path: float) -> None:
        depth = len(self.arch.blocks)
        blocks = (block for stage in list(self.children())[1:-1] for block in stage)
        for i, block in enumerate(blocks):
            for module in block.modules():
                if isinstance(module, StochasticDepth):
                    module.p = drop_path * i / max(depth - 1, 1)
        for module in self.head.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
