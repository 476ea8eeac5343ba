"""Which nodes of an ONNX graph must be in float together, for a feature map to stay in float."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto

_LAYERS = ("Conv", "Gemm", "MatMul", "Mul", "Add")
_ACTIVATIONS = ("Relu", "Clip", "HardSwish", "HardSigmoid", "Sigmoid")


def layer_groups(graph: GraphProto) -> list[list[str]]:
    """Names of nodes, a group for the feature map behind each layer and its activation.

    A group holds the layer that writes the map, its activation, and everything that reads the map.
    """
    readers: dict[str, list] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    groups = []
    for node in graph.node:
        if node.op_type not in _LAYERS:
            continue
        writers = [node]
        while len(after := readers.get(writers[-1].output[0], [])) == 1 and (
            after[0].op_type in _ACTIVATIONS
        ):
            writers.append(after[0])
        groups.append([member.name for member in (*writers, *after)])
    return groups
