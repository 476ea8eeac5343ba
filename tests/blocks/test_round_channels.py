from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpnas.blocks import round_channels


def rule(channels: Fraction) -> int:
    """Round half up to a multiple of 8, 8 more if that is below 0.95 of it, at least 8."""
    whole, rest = divmod(channels, 8)
    rounded = 8 * (whole + (rest >= 4))
    if rounded < Fraction(95, 100) * channels:
        rounded += 8
    return int(max(rounded, 8))


@pytest.mark.parametrize(
    ("channels", "expected"),
    [(1, 8), (8, 8), (8.4, 8), (11, 16), (12, 16), (16, 16), (18, 24), (20, 24), (36, 40)]
    + [(99, 96), (100, 104), (8 * 5.4566, 48), (24 * 4.7912, 112), (80 * 1.7712, 144)],
)
def test_examples(channels: float, expected: int) -> None:
    assert round_channels(channels) == expected


@given(st.integers(1, 4000), st.integers(1, 40))
def test_rule(channels: int, quarters: int) -> None:
    """On products that floats hold exactly, as the spaces have them."""
    product = channels * quarters / 4
    assert round_channels(product) == rule(Fraction(channels * quarters, 4))


@given(st.integers(1, 10**6), st.sampled_from([1, 2, 8, 16]))
def test_integers(channels: int, divisor: int) -> None:
    rounded = round_channels(channels, divisor)
    assert type(rounded) is int
    assert rounded % divisor == 0 and rounded >= divisor
    assert rounded >= 0.95 * channels
    if channels % divisor == 0:
        assert rounded == channels


@given(st.floats(0.01, 1e5), st.floats(0.01, 1e5))
def test_monotone(a: float, b: float) -> None:
    """A supernet relies on it: the largest width and expansion hold the weights of all others."""
    low, high = sorted((a, b))
    assert round_channels(low) <= round_channels(high)
