from __future__ import annotations

from dataclasses import dataclass, fields

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fpnas.blocks import (
    Attention,
    BlockSpec,
    ConvSpec,
    Cost,
    HeadSpec,
    MBConvSpec,
    PooledHeadSpec,
    SkipSpec,
)

WHOLE = st.integers(1, 40)
RATIO = st.sampled_from([0.5, 0.75, 1, 1.1, 2.12, 2.25, 3, 4.5, 5.4566])
ACT = st.sampled_from(["relu", "swish", "hswish"])


@dataclass(frozen=True)
class ShuffleSpec(BlockSpec):
    """A block as a user would write it: no vectorised cost, a field that is no number."""

    channels: int
    stride: int = 1
    mode: str = "slow"

    def cost(self, in_channels: int, height: int, width: int) -> Cost:
        weights = in_channels * self.channels * (2 if self.mode == "slow" else 1)
        return Cost(weights * height * width // self.stride, weights)

    def build(self, in_channels: int) -> nn.Module:
        raise NotImplementedError


CHOICES = {
    MBConvSpec: {
        "kernel": st.sampled_from([0, 3, 5, 7]),
        "splits": st.sampled_from([0, 1, 2, 4]),
        "expansion": RATIO,
        "act": ACT,
        "channels": WHOLE,
        "attention": st.sampled_from(
            [Attention(), Attention("input", divisor=1), Attention(ratio=0.1)]
        ),
        "padding": st.sampled_from(["symmetric", "same"]),
        "always_expand": st.booleans(),
    },
    SkipSpec: {"channels": WHOLE},
    ConvSpec: {"channels": WHOLE, "kernel": st.sampled_from([1, 3]), "act": ACT},
    HeadSpec: {"channels": WHOLE, "num_classes": WHOLE, "act": ACT},
    PooledHeadSpec: {"channels": WHOLE, "num_classes": WHOLE, "expansion": RATIO},
    ShuffleSpec: {"channels": WHOLE, "mode": st.sampled_from(["slow", "fast"])},
}


def column(values: list) -> Tensor | list:
    if any(isinstance(value, (str, Attention)) for value in values):
        return values
    is_float = any(isinstance(value, float) for value in values)
    return torch.tensor(values, dtype=torch.float64 if is_float else torch.int64)


@pytest.mark.parametrize("spec_type", CHOICES)
@given(data=st.data())
def test_batch_cost_equals_cost(spec_type: type[BlockSpec], data: st.DataObject) -> None:
    rows = data.draw(
        st.lists(st.fixed_dictionaries(CHOICES[spec_type]), min_size=1, max_size=8), "rows"
    )
    in_channels = data.draw(st.lists(WHOLE, min_size=len(rows), max_size=len(rows)), "in_channels")
    height, width = data.draw(st.tuples(WHOLE, WHOLE), "size")
    stride = {}
    if "stride" in {f.name for f in fields(spec_type)}:
        stride = {"stride": data.draw(st.integers(1, 3), "stride")}
    columns = {name: column([row[name] for row in rows]) for name in rows[0]}
    columns |= {name: torch.full((len(rows),), value) for name, value in stride.items()}

    costs = spec_type.batch_cost(columns, torch.tensor(in_channels), height, width)

    expected = [
        spec_type.from_choice(**row, **stride).cost(channels, height, width)
        for row, channels in zip(rows, in_channels, strict=True)
    ]
    assert costs.flops.dtype == costs.params.dtype == torch.int64
    assert costs.flops.tolist() == [cost.flops for cost in expected]
    assert costs.params.tolist() == [cost.params for cost in expected]


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
