"""Ranges of int8 weights with which x86 processors without VNNI compute what ARM computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnx import GraphProto

# Input 1 of these is a matrix of weights, if it is a constant.
_LAYERS = ("Conv", "Gemm", "MatMul")


def overflow_safe_ranges(graph: GraphProto) -> dict[str, list[dict[str, Any]]]:
    """Ranges for the weights of ``graph``: ONNX Runtime's ``TensorQuantOverrides``.

    AVX2's ``vpmaddubsw`` adds the products of two neighbouring activations (0 to 255) and weights
    (-127 to 127) in 16 bits, where they may saturate. They cannot if two neighbouring weights sum
    up to 128 at most. Hence a channel's range is the largest sum of two neighbours, if that is
    wider than its largest weight: this costs a third of a bit on average, where ``reduce_range``
    costs one. Depthwise convolutions are summed in 32 bits and keep their range.
    """
    import onnx

    constants = {tensor.name: tensor for tensor in graph.initializer}
    overrides = {}
    for node in graph.node:
        if node.op_type not in _LAYERS or node.input[1] not in constants:
            continue
        weights = onnx.numpy_helper.to_array(constants[node.input[1]])
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if 1 < attributes.get("group", 1) == len(weights):  # depthwise
            continue
        axis = 0 if node.op_type == "Conv" or attributes.get("transB", 0) else 1
        ranges = _ranges(_rows(weights, axis))
        overrides[node.input[1]] = [
            {"axis": axis, "symmetric": True, "rmin": -value, "rmax": value} for value in ranges
        ]
    return overrides


def _rows(weights: np.ndarray, axis: int) -> np.ndarray:
    """A row of weights for each output channel, in the order in which they are summed.

    Convolutions run on channels-last images: channels are the innermost axis.
    """
    channels_last = np.moveaxis(np.moveaxis(weights, axis, 0), 1, -1)
    return channels_last.reshape(len(channels_last), -1)


def _ranges(rows: np.ndarray) -> np.ndarray:
    """float32 [O]: rounded to 127 steps of it, no two neighbours of rows [O, K] exceed 128."""
    even = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2)))
    pairs = even.reshape(len(even), -1, 2).sum(2)
    return np.maximum(np.abs(rows).max(1), np.abs(pairs).max(1)).astype(np.float32)
