from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import resources

import pytest
import timm
import torch
from torch import Tensor, nn

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
# In the authors' training logs: millions of FLOPs and of parameters, BatchNorm and biases included.
PROXYLESSNAS = {"proxylessnas_gpu": (465.3, 7.12), "proxylessnas_mobile": (320.4, 4.08)}

# Our name -> timm's.
TIMM = {
    name: name
    for name in (
        *(f"efficientnet_b{i}" for i in range(3)),
        "fbnetc_100",
        *(f"hardcorenas_{letter}" for letter in "abcdef"),
        "mnasnet_100",
        "mobilenetv2_100",
        *(f"mobilenetv3_{size}_100" for size in ("large", "small")),
        "semnasnet_100",
        "spnasnet_100",
    )
} | {f"efficientnet_lite{i}": f"tf_efficientnet_lite{i}" for i in range(3)}


@cache
def on_meta(name: str) -> SearchedNet:
    """Shapes only: no memory, no time."""
    with torch.device("meta"):
        return SearchedNet(get_arch(name)).eval()


def is_weighted(module: nn.Module) -> bool:
    return isinstance(module, (nn.Conv2d, nn.Linear))


def weights(net: nn.Module) -> int:
    """Of convolutions and linear layers, without bias."""
    return sum(module.weight.numel() for module in net.modules() if is_weighted(module))


def all_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def multiply_adds(net: nn.Module, size: int) -> int:
    """Of convolutions and linear layers, counted at the modules while ``net`` runs."""
    counts = []

    def count(module: nn.Module, _: tuple, out: Tensor) -> None:
        counts.append(module.weight.numel() * (out[0, 0].numel() if out.dim() == 4 else 1))

    run_without_data(net, size, is_weighted, count)
    return sum(counts)


def pool_inputs(net: SearchedNet) -> int:
    """Inputs of every adaptive average pool. The published classifier pools its 1x1 map again."""
    inputs = [net.arch.head.channels]
    run_without_data(
        net,
        net.arch.input_size,
        lambda module: isinstance(module, nn.AdaptiveAvgPool2d),
        lambda _, args, __: inputs.append(args[0].numel()),
    )
    return sum(inputs)


def run_without_data(net: nn.Module, size: int, is_watched: Callable, hook: Callable) -> None:
    """Run ``net`` on the meta device with ``hook`` behind the modules that are watched."""
    for module in net.modules():
        if is_watched(module):
            module.register_forward_hook(hook)
        elif isinstance(module, nn.BatchNorm2d):
            module.forward = lambda x: x  # no change of shape, and slow without data
    net(torch.zeros(1, 3, size, size, device="meta"))


@pytest.mark.parametrize("name", FBNETV2)
def test_fbnetv2_equals_the_published_numbers(name: str) -> None:
    arch = get_arch(name)
    size, flops, published = FBNETV2[name]
    assert (arch.name, arch.input_size, arch.num_classes) == (name, size, 1000)
    assert arch.params == published
    assert arch.flops() + pool_inputs(on_meta(name)) == flops


@pytest.mark.parametrize("name", MULTIPLY_ADDS)
def test_fbnetv2_multiply_adds(name: str) -> None:
    assert get_arch(name).flops() == MULTIPLY_ADDS[name]


@pytest.mark.parametrize("name", ALL_PARAMETERS)
def test_fbnetv2_parameters_of_the_module(name: str) -> None:
    arch = get_arch(name)
    assert all_parameters(on_meta(name)) + arch.stem.channels == ALL_PARAMETERS[name]


@pytest.mark.parametrize("name", [name for name in FBNETV2 if "_f" in name])
def test_fbnetv2_gates_as_published(name: str) -> None:
    """Hard-sigmoid, and the activation of the block in front of it."""
    blocks = [m for m in on_meta(name).modules() if hasattr(m, "attention")]
    gated = [block for block in blocks if not isinstance(block.attention, nn.Identity)]
    assert len(gated) >= 5
    for block in gated:
        assert isinstance(block.attention.gate, nn.Hardsigmoid)
        assert type(block.attention.act) is type(block.depthwise.act)


@pytest.mark.parametrize("name", PROXYLESSNAS)
def test_proxylessnas_equals_the_authors_logs(name: str) -> None:
    arch = get_arch(name)
    assert round(arch.flops() / 1e6, 1) == PROXYLESSNAS[name][0]
    assert round(all_parameters(on_meta(name)) / 1e6, 2) == PROXYLESSNAS[name][1]


@pytest.mark.parametrize("name", TIMM)
def test_numbers_equal_those_of_timms_model(name: str) -> None:
    arch = get_arch(name)
    with torch.device("meta"):
        theirs = timm.create_model(TIMM[name]).eval()
    assert arch.params == weights(theirs)
    assert all_parameters(on_meta(name)) == all_parameters(theirs)
    assert arch.flops() == multiply_adds(theirs, arch.input_size)


@pytest.mark.parametrize("name", NAMED)
def test_named_files(name: str) -> None:
    arch = get_arch(name)
    assert arch.name == name
    assert Architecture.from_yaml(arch.to_yaml()) == arch
    assert arch.params == weights(on_meta(name))


@pytest.mark.parametrize("name", NAMED)
def test_named_files_stand_as_they_are_written(name: str) -> None:
    """A line of comment or more, then what ``to_yaml`` writes."""
    text = resources.files("fpnas.archs").joinpath(f"named/{name}.yaml").read_text("utf-8")
    comment = [line for line in text.splitlines() if line.startswith("#")]
    assert comment and all(len(line) <= 100 for line in comment)
    assert text == "\n".join([*comment, get_arch(name).to_yaml()])


def test_the_named_ones_are_there() -> None:
    assert {*FBNETV2, *PROXYLESSNAS, *TIMM} <= set(NAMED)
