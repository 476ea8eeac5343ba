from __future__ import annotations

from importlib import resources

import pytest
import timm
import torch
from torch import nn

from fpnas.archs import Architecture, get_arch
from fpnas.modeling import SearchedNet

NAMED = sorted(
    file.name.removesuffix(".yaml")
    for file in resources.files("fpnas.archs").joinpath("named").iterdir()
    if file.name.endswith(".yaml")
)

# As published with mobile-vision: px, FLOPs, weights. Its FLOPs count multiply-adds of
# convolutions and linear layers plus the inputs of every adaptive average pool.
FBNETV2 = {
    "fbnetv2_f1": (128, 56_410_560, 5_999_408),
    "fbnetv2_f2": (160, 85_441_392, 5_999_408),
    "fbnetv2_f3": (192, 121_824_000, 6_899_504),
    "fbnetv2_f4": (224, 238_351_984, 6_994_824),
    "fbnetv2_l1": (224, 326_023_008, 8_496_520),
    "fbnetv2_l2": (256, 423_912_768, 8_496_520),
}
MULTIPLY_ADDS = {
    "fbnetv2_f1": 56_231_936,
    "fbnetv2_f2": 85_163_192,
    "fbnetv2_f3": 121_423_712,
    "fbnetv2_f4": 237_605_592,
}
# Trainable numbers with BatchNorm and biases; there the stem's convolution has a bias, too.
ALL_PARAMETERS = {
    "fbnetv2_f1": 6_024_744,
    "fbnetv2_f2": 6_024_744,
    "fbnetv2_f3": 6_924_840,
    "fbnetv2_f4": 7_022_880,
}


def on_meta(arch: Architecture) -> SearchedNet:
    """Shapes only: no memory, no time."""
    with torch.device("meta"):
        return SearchedNet(arch).eval()


def pool_inputs(arch: Architecture) -> int:
    """Inputs of every adaptive average pool. The published classifier pools its 1x1 map again."""
    net, inputs = on_meta(arch), [arch.head.channels]
    for module in net.modules():
        if isinstance(module, nn.AdaptiveAvgPool2d):
            module.register_forward_hook(lambda _, args, __: inputs.append(args[0].numel()))
    net(torch.zeros(1, 3, arch.input_size, arch.input_size, device="meta"))
    return sum(inputs)


@pytest.mark.parametrize("name", FBNETV2)
def test_fbnetv2_equals_the_published_numbers(name: str) -> None:
    arch = get_arch(name)
    size, flops, weights = FBNETV2[name]
    assert (arch.name, arch.input_size, arch.num_classes) == (name, size, 1000)
    assert arch.params == weights
    assert arch.flops() + pool_inputs(arch) == flops


@pytest.mark.parametrize("name", MULTIPLY_ADDS)
def test_fbnetv2_multiply_adds(name: str) -> None:
    assert get_arch(name).flops() == MULTIPLY_ADDS[name]


@pytest.mark.parametrize("name", ALL_PARAMETERS)
def test_fbnetv2_parameters_of_the_module(name: str) -> None:
    arch = get_arch(name)
    own = sum(parameter.numel() for parameter in on_meta(arch).parameters())
    assert own + arch.stem.channels == ALL_PARAMETERS[name]


@pytest.mark.parametrize("name", ["mnasnet_100", "spnasnet_100"])
def test_equals_timms_model_of_the_same_name(name: str) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model(name)
    ours = SearchedNet(get_arch(name))
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight, 1, 0.1)
            nn.init.normal_(module.bias, 0, 0.1)
    # Both list their layers in order of execution.
    weights = theirs.state_dict().values()
    ours.load_state_dict(dict(zip(ours.state_dict(), weights, strict=True)))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMED)
def test_named_files(name: str) -> None:
    arch = get_arch(name)
    assert arch.name == name
    assert Architecture.from_yaml(arch.to_yaml()) == arch
    logits = on_meta(arch)(torch.zeros(1, 3, arch.input_size, arch.input_size, device="meta"))
    assert logits.shape == (1, arch.num_classes)
    weights = [m for m in on_meta(arch).modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert arch.params == sum(module.weight.numel() for module in weights)


def test_the_named_ones_are_there() -> None:
    assert {*FBNETV2, "mnasnet_100", "spnasnet_100"} <= set(NAMED)
