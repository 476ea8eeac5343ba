"""What int8 asks of an ONNX graph: other forms, the ranges of weights, what is kept in float.

Forms change no value. What helps float32 does not always help int8: the runtime has no 8-bit
HardSigmoid, its 8-bit AveragePool is slow while its GlobalAveragePool is not, and a gate written
out as a map is one map more to read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization.onnx_model import ONNXModel

_LEVELS = 255  # of uint8

# Input 1 of these is a matrix of weights, if it is a constant.
_WEIGHTED = ("Conv", "Gemm", "MatMul")
# These write feature maps.
_LAYERS = (*_WEIGHTED, "Mul", "Add")
_ACTIVATIONS = ("Relu", "Clip", "HardSwish", "HardSigmoid", "Sigmoid")


def before_quantization(proto: ModelProto) -> None:
    """Take out the steps in front of a global pool, and gates that are resized to their map.

    The mean of the means of equal windows is the mean of the map, and Mul broadcasts a gate.
    """
    model = ONNXModel(proto)
    for node in list(model.nodes()):
        if _is_step_of_global_pool(node, proto.graph) or _is_resized_gate(node, proto.graph):
            model.replace_input_of_all_nodes(node.output[0], node.input[0])
            model.remove_node(node)
    model.clean_initializers()


def after_quantization(proto: ModelProto) -> None:
    """Write every HardSigmoid between Dequantize- and QuantizeLinear as an addition.

    ``clip(a x + b, 0, 1)`` is ``a`` times ``x + b / a``, clipped to ``[0, 1 / a]``. The factor goes
    into the scale of the result, and clipping is what 8 bits do at their ends: the result is never
    negative, so that its zero point is 0. Without this, two conversions surround a float operator.
    """
    graph = proto.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    for index, node in reversed(list(enumerate(graph.node))):
        if node.op_type != "HardSigmoid":
            continue
        source, readers = makers.get(node.input[0]), _readers(node.output[0], graph)
        if (
            source is None
            or source.op_type != "DequantizeLinear"
            or [reader.op_type for reader in readers] != ["QuantizeLinear"]
        ):
            continue
        [quantize] = readers
        slope, shift = _attribute(node, "alpha", 0.2), _attribute(node, "beta", 0.5)
        zero_point = numpy_helper.to_array(constants[quantize.input[2]])
        if slope <= 0 or shift < 0 or zero_point.dtype != np.uint8 or zero_point != 0:
            continue
        scale = numpy_helper.to_array(constants[quantize.input[1]])
        name = f"{node.output[0]}_as_addition"
        values = {
            f"{name}_scale": scale / np.float32(slope),
            f"{name}_shift": np.uint8(_LEVELS),
            f"{name}_shift_scale": np.float32(shift / slope / _LEVELS),
            f"{name}_shift_zero": np.uint8(0),
        }
        graph.initializer.extend(
            numpy_helper.from_array(np.asarray(value), key) for key, value in values.items()
        )
        own_scale, *shift_names = values
        quantize.input[1] = own_scale
        constant = helper.make_node(
            "DequantizeLinear", shift_names, [f"{name}_shift_float"], name=f"{name}_shift_dq"
        )
        addition = helper.make_node(
            "Add", [node.input[0], constant.output[0]], list(node.output), name=name
        )
        del graph.node[index]
        graph.node.insert(index, addition)
        graph.node.insert(index, constant)


def shorten_names(proto: ModelProto) -> None:
    """Number the nodes and tensors; inputs, outputs and weights keep their names.

    The quantiser's names for what it adds are a fifth of the file of a small network. Zero points
    of biases are 0, which is what DequantizeLinear takes without one.
    """
    graph = proto.graph
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and len(node.input) == 3:
            zero_points = [t for t in graph.initializer if t.name == node.input[2]]
            if zero_points and zero_points[0].data_type == TensorProto.INT32:
                del node.input[2]
    ONNXModel(proto).clean_initializers()
    kept = {value.name for value in (*graph.input, *graph.output)}
    kept |= {tensor.name for tensor in graph.initializer if tensor.name.endswith("_quantized")}
    names: dict[str, str] = {"": ""}  # an optional input that is left out
    for index, node in enumerate(graph.node):
        node.name = f"n{index}"
        for ends in (node.input, node.output):
            for i, name in enumerate(ends):
                if name not in kept:
                    ends[i] = names.setdefault(name, f"t{len(names)}")
    for tensor in (*graph.initializer, *graph.value_info):
        tensor.name = names.get(tensor.name, tensor.name)


def overflow_safe_ranges(graph: GraphProto) -> dict[str, list[dict[str, Any]]]:
    """Ranges of weights with which x86 processors without VNNI compute what ARM computes.

    For the weights of ``graph``, as ONNX Runtime's ``TensorQuantOverrides``.

    AVX2's ``vpmaddubsw`` adds the products of two neighbouring activations (0 to 255) and weights
    (-127 to 127) in 16 bits, where they may saturate. They cannot if two neighbouring weights sum
    up to 128 at most. Hence a channel's range is the largest sum of two neighbours, if that is
    wider than its largest weight: this costs a third of a bit on average, where ``reduce_range``
    costs one. Depthwise convolutions are summed in 32 bits and keep their range.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    overrides = {}
    for node in graph.node:
        if node.op_type not in _WEIGHTED or node.input[1] not in constants:
            continue
        weights = numpy_helper.to_array(constants[node.input[1]])
        if 1 < _attribute(node, "group", 1) == len(weights):  # depthwise
            continue
        axis = 0 if node.op_type == "Conv" or _attribute(node, "transB", 0) else 1
        # In the order in which they are summed: convolutions run on channels-last images.
        rows = np.moveaxis(np.moveaxis(weights, axis, 0), 1, -1).reshape(weights.shape[axis], -1)
        even = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2)))
        pairs = even.reshape(len(even), -1, 2).sum(2)
        ranges = np.maximum(np.abs(rows).max(1), np.abs(pairs).max(1)).astype(np.float32)
        overrides[node.input[1]] = [
            {"axis": axis, "symmetric": True, "rmin": -value, "rmax": value} for value in ranges
        ]
    return overrides


def layer_groups(graph: GraphProto) -> list[list[str]]:
    """Names of nodes that must be in float together, for a feature map to stay in float.

    There is a group for the map behind each layer and its activation. It holds the layer that
    writes the map, its activation, and everything that reads the map.
    """
    groups = []
    for node in graph.node:
        if node.op_type not in _LAYERS:
            continue
        writers = [node]
        while len(after := _readers(writers[-1].output[0], graph)) == 1 and (
            after[0].op_type in _ACTIVATIONS
        ):
            writers.append(after[0])
        groups.append([member.name for member in (*writers, *after)])
    return groups


def _is_step_of_global_pool(node: NodeProto, graph: GraphProto) -> bool:
    """Whether ``node`` averages over windows that the global pool behind it averages again.

    Windows of one pixel average over nothing, whatever stands behind them.
    """
    if node.op_type != "AveragePool" or any(_attribute(node, "pads", ())):
        return False
    window, strides = _attribute(node, "kernel_shape", ()), _attribute(node, "strides", ())
    if list(window) != list(strides or [1] * len(window)):
        return False
    readers = _readers(node.output[0], graph)
    all_pool = bool(readers) and all(reader.op_type == "GlobalAveragePool" for reader in readers)
    sides = _shape(node.input[0], graph)[2:]
    fits = len(sides) == len(window) and all(
        side and side % step == 0 for side, step in zip(sides, window, strict=True)
    )
    return set(window) == {1} or (all_pool and fits)


def _is_resized_gate(node: NodeProto, graph: GraphProto) -> bool:
    """Whether ``node`` spreads one pixel over the map that it is multiplied with."""
    return (
        node.op_type == "Resize"
        and _shape(node.input[0], graph)[2:] == [1, 1]
        and all(reader.op_type == "Mul" for reader in _readers(node.output[0], graph))
    )


def _readers(name: str, graph: GraphProto) -> list[NodeProto]:
    return [node for node in graph.node if name in node.input]


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return values.get(name, default)


def _shape(name: str, graph: GraphProto) -> list[int]:
    """Axes of a tensor; 0 where they are not fixed, none where nothing is known."""
    for value in (*graph.value_info, *graph.input):
        if value.name == name:
            return [axis.dim_value for axis in value.type.tensor_type.shape.dim]
    return []
