"""Forms of a graph for 8 bits: other operators, the same values. Weights whose sums fit."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import GraphProto, TensorProto, helper, numpy_helper

from fpnas.export.int8_graph import (
    after_quantization,
    before_quantization,
    overflow_safe_ranges,
    shorten_names,
)


def graph_of(nodes, shape, constants=None, out_shape=None) -> onnx.ModelProto:
    """``x`` of ``shape`` -> ``y``."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, shape)],
        [value("y", TensorProto.FLOAT, out_shape or shape)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def outputs(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(["y"], {"x": x})[0]


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def noise(*shape: int) -> np.ndarray:
    return (4 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


def squeeze_excite(window: int, size: int, pads=(0, 0, 0, 0)) -> onnx.ModelProto:
    """A pool in two steps and a gate that is resized before it multiplies."""
    step = {"kernel_shape": [window] * 2, "strides": [window] * 2, "pads": pads}
    nodes = [
        helper.make_node("AveragePool", ["x"], ["means"], "step", **step),
        helper.make_node("GlobalAveragePool", ["means"], ["mean"], "pool"),
        helper.make_node("Sigmoid", ["mean"], ["gate"], "gate"),
        helper.make_node(
            "Resize",
            ["gate", "", "scales"],
            ["map"],
            "resize",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        helper.make_node("Mul", ["x", "map"], ["y"], "mul"),
    ]
    scales = {"scales": np.float32([1, 1, size, size])}
    return graph_of(nodes, [1, 3, size, size], scales)


def test_steps_of_pools_and_resized_gates_go():
    model, x = squeeze_excite(2, 14), noise(1, 3, 14, 14)
    expected = outputs(model, x)
    before_quantization(model)
    assert kinds(model) == ["GlobalAveragePool", "Sigmoid", "Mul"]
    assert not model.graph.initializer
    np.testing.assert_allclose(outputs(model, x), expected, atol=1e-6)


@pytest.mark.parametrize(("window", "size", "pads"), [(2, 15, (0,) * 4), (2, 14, (1,) * 4)])
def test_pool_whose_windows_leave_rows_out_or_take_others_in_stays(window, size, pads):
    model, x = squeeze_excite(window, size, pads), noise(1, 3, size, size)
    expected = outputs(model, x)
    before_quantization(model)
    assert kinds(model)[0] == "AveragePool"
    np.testing.assert_allclose(outputs(model, x), expected, atol=1e-6)


def hard_sigmoid(alpha: float, beta: float, top: float, zero: int = 0) -> onnx.ModelProto:
    """Quantised to [-4.9, 4.8], hard-sigmoid, quantised to [0, top]."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("HardSigmoid", ["xd"], ["h"], alpha=alpha, beta=beta),
        helper.make_node("QuantizeLinear", ["h", "t", "o"], ["hq"]),
        helper.make_node("DequantizeLinear", ["hq", "t", "o"], ["y"]),
    ]
    scales = {"s": np.float32(9.7 / 255), "t": np.float32(top / 255)}
    zeros = {"z": np.uint8(128), "o": np.uint8(zero)}
    return graph_of(nodes, [1000], scales | zeros)


@pytest.mark.parametrize(("alpha", "beta"), [(1 / 6, 0.5), (0.2, 0.5), (1 / 6, 0.0)])
@pytest.mark.parametrize("top", [1.0, 0.7])
def test_hard_sigmoid_is_an_addition_of_the_same_value(alpha, beta, top):
    model, x = hard_sigmoid(alpha, beta, top), noise(1000)
    expected = outputs(model, x)
    after_quantization(model)
    assert "HardSigmoid" not in kinds(model) and "Add" in kinds(model)
    found = outputs(model, x)
    # A value between two steps may be rounded to the other one.
    assert np.abs(found - expected).max() <= 1.01 * top / 255
    assert np.mean(found != expected) < 0.02
    assert found.min() == 0 and found.max() == pytest.approx(min(top, expected.max()), abs=1e-6)


def test_hard_sigmoid_whose_result_starts_below_zero_stays():
    model = hard_sigmoid(1 / 6, 0.5, 1.0, zero=3)
    after_quantization(model)
    assert "HardSigmoid" in kinds(model)


def test_short_names_change_nothing_else():
    model, x = hard_sigmoid(1 / 6, 0.5, 1.0), noise(1000)
    after_quantization(model)
    expected = outputs(model, x)
    shorten_names(model)
    assert [value.name for value in model.graph.input] == ["x"]
    assert all(len(name) <= 3 for node in model.graph.node for name in (node.name, *node.input))
    np.testing.assert_array_equal(outputs(model, x), expected)


# Weights: no two neighbours overflow, whatever the weights are ------------------------------------

_STEPS = 127


def layer_of(op: str, weights: np.ndarray, **attributes: int) -> GraphProto:
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
    overrides = overflow_safe_ranges(layer_of("Conv", weights))["w"]
    for row, override in zip(weights[:, :, 0, 0], overrides, strict=True):
        found = rounded(row, override)
        pairs = np.append(found, [0] * (size % 2)).reshape(-1, 2)
        assert np.abs(found).max() <= _STEPS and np.abs(pairs.sum(1)).max() <= _STEPS + 1
        assert np.abs(np.concatenate([found, pairs.sum(1)])).max() >= _STEPS - 1


def test_convolutions_are_summed_channels_last():
    weights = np.zeros((1, 2, 1, 2), np.float32)  # [O, C, H, W]
    weights[0, :, 0, 0] = 1  # neighbours in memory of channels-last, not of channels-first
    (override,) = overflow_safe_ranges(layer_of("Conv", weights))["w"]
    assert override["rmax"] == 2 and override["axis"] == 0


def test_a_matrix_has_its_channels_in_columns_unless_it_is_transposed():
    weights = np.array([[1, 3, 0], [1, -3, 0]], np.float32)
    columns = overflow_safe_ranges(layer_of("MatMul", weights))["w"]
    assert [(o["axis"], float(o["rmax"])) for o in columns] == [(1, 2), (1, 3), (1, 0)]
    rows = overflow_safe_ranges(layer_of("Gemm", weights, transB=1))["w"]
    assert [(o["axis"], float(o["rmax"])) for o in rows] == [(0, 4), (0, 3)]


def test_depthwise_convolutions_keep_their_range():
    weights = np.ones((8, 1, 3, 3), np.float32)
    assert not overflow_safe_ranges(layer_of("Conv", weights, group=8))
    assert overflow_safe_ranges(layer_of("Conv", weights, group=2))
