"""A block, a space and an architecture of a user's own, from outside of the package."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from fpnas.archs import ARCH_REGISTRY, Architecture, get_arch
from fpnas.blocks import BLOCK_REGISTRY, BlockSpec, ConvSpec, Cost, HeadSpec, output_size
from fpnas.config import get_cfg
from fpnas.layers import ConvBNAct
from fpnas.modeling import SearchedNet, SuperNet, build_model
from fpnas.search import search
from fpnas.spaces import SPACE_REGISTRY, BlockGroup, NetworkSpace, get_space


@BLOCK_REGISTRY.register(name="Residual")
@dataclass(frozen=True)
class ResidualSpec(BlockSpec):
    """A kxk convolution, plus the input where shapes agree."""

    channels: int
    stride: int = 1
    kernel: int = 3

    def cost(self, in_channels: int, height: int, width: int) -> Cost:
        weights = self.kernel**2 * in_channels * self.channels
        area = output_size(height, self.stride) * output_size(width, self.stride)
        return Cost(weights * area, weights)

    def build(self, in_channels: int) -> nn.Module:
        return Residual(self, in_channels)


class Residual(nn.Module):
    def __init__(self, spec: ResidualSpec, in_channels: int) -> None:
        super().__init__()
        self.conv = ConvBNAct(in_channels, spec.channels, spec.kernel, spec.stride, act="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.conv(x)
        return x + out if x.shape == out.shape else out


@SPACE_REGISTRY.register(name="Residual-Space")
def residual_space() -> NetworkSpace:
    rows = [
        BlockGroup(
            {"kernel": (1, 3, 5), "channels": (8, 16, 24)}, repeats=2, stride=2, block="Residual"
        ),
        BlockGroup({"kernel": (3, 5), "expansion": (2, 4), "channels": (24, 32)}),
    ]
    stem, head = ConvSpec(channels=8), HeadSpec(channels=32, num_classes=4)
    return NetworkSpace("Residual-Space", 16, stem, rows, head)


@ARCH_REGISTRY.register()
def residual_net() -> Architecture:
    return get_space("Residual-Space").architecture([1, 2, 0, 1, 0], name="residual_net")


def test_architecture() -> None:
    arch = get_arch("residual_net")
    assert arch.blocks[0] == ResidualSpec(channels=24, stride=2, kernel=3)
    assert Architecture.from_yaml(arch.to_yaml()) == arch
    assert "block: Residual, channels: 24, stride: 2, kernel: 3" in arch.to_yaml()


def test_cost() -> None:
    arch = get_arch("residual_net")
    analysis = FlopCountAnalysis(SearchedNet(arch).eval(), torch.zeros(1, 3, 16, 16))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    operators = analysis.by_operator()
    assert arch.flops() == operators["conv"] + operators["linear"]


def test_space() -> None:
    space = get_space("Residual-Space")
    assert space.num_architectures == 9 * 8 == space.num_distinct
    choices = space.sample(40, torch.Generator().manual_seed(0))
    archs = [space.architecture(row) for row in choices]
    assert space.flops(choices).tolist() == [arch.flops() for arch in archs]
    assert space.params(choices).tolist() == [arch.params for arch in archs]


def test_model() -> None:
    cfg = get_cfg()
    cfg.MODEL.ARCH = "residual_net"
    assert build_model(cfg)(torch.randn(2, 3, 16, 16)).shape == (2, 4)


@pytest.mark.parametrize("sharing", ["paper", "pointwise"])
def test_supernet(sharing: str) -> None:
    torch.manual_seed(0)
    supernet = SuperNet(get_space("Residual-Space"), sharing=sharing)
    x = torch.randn(4, 3, 16, 16)
    for choices in supernet.space.sample(10, torch.Generator().manual_seed(0)):
        network = supernet.extract(choices)
        assert torch.equal(network(x), supernet(x, choices))
    # Kernel sizes have weights of their own, widths share them.
    stored = [name for name, _ in supernet.store.named_weights() if name.startswith("stage1.0")]
    convs = [supernet.store.full(name) for name in stored if name.endswith("conv.conv.weight")]
    assert sorted(tuple(conv.shape) for conv in convs) == [
        (24, 8, kernel, kernel) for kernel in (1, 3, 5)
    ]


def test_search() -> None:
    """The cost alone decides here, so the found network is as cheap as the target asks."""
    space = get_space("Residual-Space")
    target = 600_000.0
    result = search(
        space,
        lambda choices: torch.zeros(len(choices)),
        cost=space.flops,
        target=target,
        iterations=20,
        seed=0,
    )
    assert space.flops(result.choices[None]).item() <= target
