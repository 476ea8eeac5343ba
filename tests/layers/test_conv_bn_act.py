from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import create_conv2d
from torch import nn

from fpnas.errors import ConfigError
from fpnas.layers import (
    ACTIVATIONS,
    PADDINGS,
    ConvBNAct,
    build_activation,
    check_activation,
)


@given(
    size=st.integers(1, 17),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.sampled_from([1, 2, 3]),
    channels=st.integers(1, 4),
    padding=st.sampled_from(PADDINGS),
)
def test_output_shape(size: int, kernel: int, stride: int, channels: int, padding: str) -> None:
    layer = ConvBNAct(2, channels, kernel, stride, padding=padding).eval()
    side = (size - 1) // stride + 1
    assert layer(torch.zeros(2, 2, size, size + 3)).shape == (
        2,
        channels,
        side,
        (size + 2) // stride + 1,
    )


@given(
    height=st.integers(1, 17),
    width=st.integers(1, 17),
    kernel=st.sampled_from([1, 3, 5, 7]),
    stride=st.sampled_from([1, 2, 3]),
)
def test_same_padding_is_timms(height: int, width: int, kernel: int, stride: int) -> None:
    layer = ConvBNAct(3, 3, kernel, stride, groups=3, padding="same")
    theirs = create_conv2d(3, 3, kernel, stride=stride, padding="same", depthwise=True)
    theirs.load_state_dict(layer.conv.state_dict())
    layer.bn = nn.Identity()
    x = torch.randn(2, 3, height, width)
    torch.testing.assert_close(layer(x), theirs(x))


def test_same_padding_costs_nothing_where_both_are_equal() -> None:
    names = [name for name, _ in ConvBNAct(3, 8, 5, 1, padding="same").named_children()]
    assert names == ["conv", "bn"]
    names = [name for name, _ in ConvBNAct(3, 8, 5, 2, padding="same").named_children()]
    assert names == ["pad", "conv", "bn"]
    assert next(iter(ConvBNAct(3, 8, 5, 2, padding="same").state_dict())) == "conv.weight"


def test_parts_in_order() -> None:
    layer = ConvBNAct(4, 8, 3, groups=4, act="swish")
    assert [name for name, _ in layer.named_children()] == ["conv", "bn", "act"]
    assert layer.conv.bias is None
    assert layer.conv.weight.shape == (8, 1, 3, 3)
    x = torch.randn(2, 4, 5, 5)
    expected = nn.functional.silu(layer.bn(layer.conv(x)))
    torch.testing.assert_close(layer(x), expected)


def test_no_activation() -> None:
    layer = ConvBNAct(4, 8, 1, act=None)
    assert not hasattr(layer, "act")
    assert layer(torch.randn(4, 4, 5, 5)).min() < 0


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("relu", nn.functional.relu),
        ("relu6", nn.functional.relu6),
        ("swish", nn.functional.silu),
        ("hswish", nn.functional.hardswish),
    ],
)
def test_activations(name: str, function) -> None:
    x = torch.linspace(-9, 9, 101)
    assert torch.equal(build_activation(name)(x), function(x))
    assert torch.equal(x, torch.linspace(-9, 9, 101))  # not in place


def test_every_activation_is_tested() -> None:
    assert set(ACTIVATIONS) == {"relu", "relu6", "swish", "hswish"}


@pytest.mark.parametrize("name", ["swsh", "", 3, None, ["relu"]])
def test_unknown_activation_lists_the_valid(name) -> None:
    with pytest.raises(ConfigError, match="relu, relu6, swish, hswish"):
        check_activation(name)


def test_unknown_activation_suggests() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'swish'"):
        ConvBNAct(3, 8, 1, act="swsh")


# The shape at which oneDNN's own gradient writes beyond its memory, with which the process ends.
STRIDED = """
import torch
from fpnas.layers import ConvBNAct

conv = ConvBNAct(8, 16, kernel=1, stride=2).conv.to(memory_format=torch.channels_last)
x = torch.randn(16, 8, 64, 64).to(memory_format=torch.channels_last).requires_grad_()
out = conv(x)
given = torch.randn_like(out)
out.backward(given)
picked = x.detach()[:, :, ::2, ::2]
weight = torch.einsum("nohw,nchw->oc", given, picked)[:, :, None, None]
image = torch.zeros_like(x)
image[:, :, ::2, ::2] = torch.einsum("nohw,oc->nchw", given, conv.weight.detach()[:, :, 0, 0])
torch.testing.assert_close(conv.weight.grad, weight, rtol=1e-4, atol=1e-2)
torch.testing.assert_close(x.grad, image, rtol=1e-4, atol=1e-4)
with torch.no_grad():
    torch.testing.assert_close(conv(x), out.detach(), rtol=1e-4, atol=1e-4)
"""


def test_gradient_of_a_strided_pointwise_convolution() -> None:
    """In a process of its own, as it would take this one with it."""
    run = subprocess.run([sys.executable, "-c", STRIDED], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-500:]
