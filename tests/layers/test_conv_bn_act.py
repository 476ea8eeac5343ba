from __future__ import annotations

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
