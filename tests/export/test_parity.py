from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpnas.export.parity import Tolerance, compare, run_in_batches

TOLERANCE = Tolerance()


def logits(seed: int = 0, count: int = 20) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 10)).astype(np.float32)


def status(reference: np.ndarray, exported: np.ndarray) -> str:
    return compare(reference, exported).judge(TOLERANCE)[0]


def test_equal_outputs_pass():
    parity = compare(logits(), logits())
    assert (parity.max_rel_error, parity.top1_agreement) == (0.0, 100.0)
    assert parity.judge(TOLERANCE) == ("ok", "")


@settings(max_examples=50, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), exponent=st.integers(-40, 20), noise=st.floats(1e-6, 1.0))
def test_verdict_does_not_depend_on_the_size_of_the_logits(seed, exponent, noise):
    a = logits(seed)
    b = a + np.float32(noise) * logits(seed + 1)
    factor = np.float32(2.0**exponent)
    assert compare(a, b) == compare(a * factor, b * factor)


def test_tiny_logits_do_not_hide_a_wrong_file():
    assert status(1e-10 * logits(0), 1e-10 * logits(1)) == "failed"


@settings(max_examples=50, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), offset=st.floats(0, 50))
def test_large_constant_does_not_hide_a_wrong_file(seed, offset):
    assert status(logits(seed) + offset, logits(seed + 1) + offset) == "failed"


def test_error_is_at_least_relative_to_the_largest_logit():
    a, b = logits(0), logits(0) + 0.01
    assert compare(a, b).max_rel_error >= np.abs(a - b).max() / np.abs(a).max() * 0.999


def test_outputs_that_ignore_the_images_prove_nothing():
    constant = np.tile(logits(count=1), (20, 1))
    assert status(constant, constant) == "unverified"
    assert status(np.zeros((4, 3)), np.zeros((4, 3))) == "unverified"


def test_wrong_constant_outputs_fail():
    constant = np.tile(logits(count=1), (20, 1))
    assert status(constant, constant * 1.01) == "failed"
    assert status(constant, np.zeros_like(constant)) == "failed"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_outputs_fail(bad):
    exported = logits()
    exported[3, 2] = bad
    assert status(logits(), exported) == "failed"


def test_agreement_is_required_where_errors_are_allowed():
    a = logits()
    b = a.copy()
    b[:2] = -b[:2]  # 2 of 20 images
    parity = compare(a, b)
    assert parity.top1_agreement == 90.0
    assert parity.judge(Tolerance(10.0, 97.0))[0] == "failed"
    assert parity.judge(Tolerance(10.0, 90.0))[0] == "ok"


def test_other_shape_is_an_error():
    with pytest.raises(ValueError, match=r"\(20, 9\).*\(20, 10\)"):
        compare(logits(), logits()[:, :9])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(count=st.integers(1, 20), batch_size=st.integers(1, 7), dynamic=st.booleans())
def test_batches_cover_every_image_once_in_order(count, batch_size, dynamic):
    sizes = []

    def run(images: np.ndarray) -> np.ndarray:
        sizes.append(len(images))
        return images.reshape(len(images), -1)

    images = np.arange(count * 3, dtype=np.float32).reshape(count, 3, 1, 1)
    np.testing.assert_array_equal(
        run_in_batches(run, images, batch_size, dynamic), images.reshape(count, 3)
    )
    if dynamic:
        assert sizes[:-1] == list(range(1, len(sizes)))
    else:
        assert set(sizes) == {batch_size}
