"""The analytic cost is what fvcore counts on the running network: exactly, in every space."""

from __future__ import annotations

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from fpnas.archs import Architecture, get_arch
from fpnas.modeling import SearchedNet
from fpnas.spaces import SPACE_REGISTRY, get_space

LARGE = {"FP-NAS-L0", "FP-NAS-L1", "FP-NAS-L2"}


def counted(arch: Architecture, size: int) -> tuple[int, int]:
    """Multiply-adds of convolutions and linear layers by fvcore, and the number of weights."""
    with torch.device("meta"):
        net = SearchedNet(arch).eval()
    net.to_empty(device="cpu")  # values do not matter
    analysis = FlopCountAnalysis(net, torch.zeros(1, 3, size, size))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    operators = analysis.by_operator()
    # BatchNorm and pooling are none of our cost; anything else would be news.
    assert set(operators) <= {"conv", "linear", "batch_norm", "adaptive_avg_pool2d"}
    layers = (m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear)))
    weights = sum(layer.weight.numel() for layer in layers)
    return int(operators["conv"] + operators["linear"]), weights


@pytest.mark.parametrize("name", SPACE_REGISTRY.names())
def test_random_architectures(name: str) -> None:
    space = get_space(name)
    for choices in space.sample(2 if name in LARGE else 4, torch.Generator().manual_seed(2)):
        arch = space.architecture(choices)
        flops, params = counted(arch, space.input_size)
        assert (arch.flops(), arch.params) == (flops, params)
        costs = space.costs(choices[None])
        assert (costs.flops.item(), costs.params.item()) == (flops, params)


@pytest.mark.parametrize("size", [31, 97])
def test_odd_input_sizes(size: int) -> None:
    space = get_space("FBNetV2-F++").at(input_size=size)
    for choices in space.sample(2, torch.Generator().manual_seed(3)):
        arch = space.architecture(choices)
        assert (arch.flops(), arch.params) == counted(arch, size)


@pytest.mark.parametrize("name", ["fbnetv2_f1", "mnasnet_100"])
def test_named_architectures(name: str) -> None:
    arch = get_arch(name)
    assert (arch.flops(), arch.params) == counted(arch, arch.input_size)
