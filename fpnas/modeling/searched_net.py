"""SearchedNet: an architecture as a network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import nn
from torchvision.ops import StochasticDepth

from fpnas.archs import Architecture
from fpnas.blocks import BlockSpec
from fpnas.config.checks import check_value
from fpnas.layers import BN_EPS
from fpnas.modeling.init import init_weights

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
