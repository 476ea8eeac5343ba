"""Equation 4 and fixed sampling."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpnas.errors import UserError
from fpnas.search import AdaptiveSampling, FixedSampling


@given(st.integers(1, 200), st.integers(2, 10**30))
def test_starts_with_the_intended_number_despite_rounding(samples, size):
    rule = AdaptiveSampling.starting_at(samples, size)
    assert rule.num_samples(math.log(size)) == samples


@given(st.floats(0.01, 4), st.floats(0, 100), st.integers(1, 3))
def test_is_floor_of_lambda_entropy(lambda_, entropy, minimum):
    product = lambda_ * entropy
    found = AdaptiveSampling(lambda_, minimum).num_samples(entropy)
    assert found in {max(minimum, math.floor(product)), max(minimum, math.floor(product + 1e-9))}


def test_a_quarter_on_fbnetv2_f_is_14_in_nats():
    assert AdaptiveSampling(0.25).num_samples(56.25) == 14


def test_fixed_ignores_the_entropy():
    assert {FixedSampling(14).num_samples(h) for h in (0.0, 3.0, 60.0)} == {14}


@pytest.mark.parametrize(
    "make",
    [
        lambda: FixedSampling(0),
        lambda: AdaptiveSampling(0.0),
        lambda: AdaptiveSampling(math.nan),
        lambda: AdaptiveSampling(0.25, minimum=0),
    ],
)
def test_unusable_rules(make):
    with pytest.raises(UserError, match="found"):
        make()
