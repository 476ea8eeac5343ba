"""No two neighbouring int8 weights overflow, whatever the weights are."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from onnx import GraphProto, TensorProto, helper, numpy_helper

from fpnas.export.int8_weights import overflow_safe_ranges

_STEPS = 127


def graph_of(op: str, weights: np.ndarray, **attributes: int) -> GraphProto:
    node = helper.make_node(op, ["x", "w"], ["y"], **attributes)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    return helper.make_graph(
        [node], op, ends[:1], ends[1:], [numpy_helper.from_array(weights, "w")]
    )


def rounded(row: np.ndarray, override: dict) -> np.ndarray:
    """int [K] weights of a channel."""
    return np.rint(row / (override["rmax"] / _STEPS)).astype(int)


@given(st.integers(0, 2**32 - 1), st.integers(1, 33), st.floats(1.0, 8.0))
def test_neighbours_of_every_channel_fit_and_the_range_is_no_wider_than_needed(seed, size, power):
    generator = np.random.default_rng(seed)
    weights = (generator.normal(size=(4, size, 1, 1)) ** power).astype(np.float32)
    weights = np.nan_to_num(weights, nan=0.5)
    overrides = overflow_safe_ranges(graph_of("Conv", weights))["w"]
    for row, override in zip(weights[:, :, 0, 0], overrides, strict=True):
        found = rounded(row, override)
        pairs = np.append(found, [0] * (size % 2)).reshape(-1, 2)
        assert np.abs(found).max() <= _STEPS and np.abs(pairs.sum(1)).max() <= _STEPS + 1
        assert np.abs(np.concatenate([found, pairs.sum(1)])).max() >= _STEPS - 1


def test_convolutions_are_summed_channels_last():
    weights = np.zeros((1, 2, 1, 2), np.float32)  # [O, C, H, W]
    weights[0, :, 0, 0] = 1  # neighbours in memory of channels-last, not of channels-first
    (override,) = overflow_safe_ranges(graph_of("Conv", weights))["w"]
    assert override["rmax"] == 2 and override["axis"] == 0


def test_a_matrix_has_its_channels_in_columns_unless_it_is_transposed():
    weights = np.array([[1, 3, 0], [1, -3, 0]], np.float32)
    columns = overflow_safe_ranges(graph_of("MatMul", weights))["w"]
    assert [(o["axis"], float(o["rmax"])) for o in columns] == [(1, 2), (1, 3), (1, 0)]
    rows = overflow_safe_ranges(graph_of("Gemm", weights, transB=1))["w"]
    assert [(o["axis"], float(o["rmax"])) for o in rows] == [(0, 4), (0, 3)]


def test_depthwise_convolutions_keep_their_range():
    weights = np.ones((8, 1, 3, 3), np.float32)
    assert not overflow_safe_ranges(graph_of("Conv", weights, group=8))
    assert overflow_safe_ranges(graph_of("Conv", weights, group=2))
