"""Forms of a graph for 8 bits: other operators, the same values."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fpnas.export.int8_forms import after_quantization, before_quantization, shorten_names


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
