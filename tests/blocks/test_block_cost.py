from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fpnas.blocks import (
    Attention,
    BlockSpec,
    ConvSpec,
    HeadSpec,
    MBConvSpec,
    PooledHeadSpec,
    SkipSpec,
)


@pytest.mark.parametrize(
    "spec",
    [
        ConvSpec(channels=6, kernel=5, stride=2),
        MBConvSpec(channels=12, stride=2, kernel=5, expansion=2.3, splits=2),
        MBConvSpec(channels=4, expansion=1, splits=1),
        MBConvSpec(channels=4, expansion=0.5, splits=4),
        MBConvSpec(channels=4, kernel=7, splits=1, attention=Attention("input", divisor=1)),
        MBConvSpec(channels=4, stride=2, expansion=1, padding="same", always_expand=True),
        SkipSpec(channels=6, stride=2),
        SkipSpec(channels=4),
        HeadSpec(channels=16, num_classes=5),
        PooledHeadSpec(channels=16, num_classes=5, expansion=2.5),
        PooledHeadSpec(channels=16, num_classes=5, bias=True),
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(7, 10), (1, 1)])
@pytest.mark.parametrize("in_channels", [4, 34])  # a quarter of 34 is rounded down before it is up
def test_cost_equals_forward_hooks(spec: BlockSpec, in_channels: int, size: tuple) -> None:
    """Multiply-adds counted at the modules while the block runs, weights at its tensors."""
    block, counted = spec.build(in_channels).eval(), []

    def count(module: nn.Module, _: tuple, output: Tensor) -> None:
        positions = output[0, 0].numel() if output.dim() == 4 else 1
        counted.append((module.weight.numel() * positions, module.weight.numel()))

    for module in block.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    block(torch.zeros(1, in_channels, *size))
    assert spec.cost(in_channels, *size) == (sum(c[0] for c in counted), sum(c[1] for c in counted))
