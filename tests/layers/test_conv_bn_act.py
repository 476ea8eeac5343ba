from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fpnas.errors import ConfigError
from fpnas.layers import ACTIVATIONS, ConvBNAct, build_activation, check_activation


@given(
    size=st.integers(1, 17),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.sampled_from([1, 2, 3]),
    channels=st.integers(1, 4),
)
def test_output_shape(size: int, kernel: int, stride: int, channels: int) -> None:
    layer = ConvBNAct(2, channels, kernel, stride).eval()
    side = (size - 1) // stride + 1
    assert layer(torch.zeros(2, 2, size, size + 3)).shape == (
        2,
        channels,
        side,
        (size + 2) // stride + 1,
    )


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
        ("swish", nn.functional.silu),
        ("hswish", nn.functional.hardswish),
    ],
)
def test_activations(name: str, function) -> None:
    x = torch.linspace(-5, 5, 101)
    assert torch.equal(build_activation(name)(x), function(x))
    assert torch.equal(x, torch.linspace(-5, 5, 101))  # not in place


def test_every_activation_is_tested() -> None:
    assert set(ACTIVATIONS) == {"relu", "swish", "hswish"}


@pytest.mark.parametrize("name", ["swsh", "", 3, None, ["relu"]])
def test_unknown_activation_lists_the_valid(name) -> None:
    with pytest.raises(ConfigError, match="relu, swish, hswish"):
        check_activation(name)


def test_unknown_activation_suggests() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'swish'"):
        ConvBNAct(3, 8, 1, act="swsh")
