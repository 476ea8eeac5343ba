"""Which accelerators of phones take an ONNX graph, by ONNX Runtime's own tool for mobile use."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

logger = logging.getLogger(__name__)

_YES = "YES"


def accelerators(path: Path) -> dict[str, str]:
    """For NNAPI (Android) and CoreML (iOS, both of its formats) what the tool thinks of the file.

    Values are ``"yes"`` (the graph runs there as a whole), ``"maybe"`` or ``"no"``, the latter two
    with the operators that are in the way. Empty, with a line in the log, if this ONNX Runtime has
    no such tool, another version of it, or one that cannot read the file: never raises.
    """
    try:
        return {name: _verdict(found) for name, found in _partitions(path).items()}
    except Exception as error:  # advice only, by a tool without a stable interface
        logger.info("No verdict on accelerators of phones: %s: %s", type(error).__name__, error)
        return {}


def _partitions(path: Path) -> dict[str, object]:
    """What the tool says of each accelerator."""
    from onnxruntime.tools.mobile_helpers import usability_checker as checker
    from onnxruntime.tools.onnx_model_utils import ModelProtoWithShapeInfo

    graph = ModelProtoWithShapeInfo(path).model_with_shape_info
    return {
        "NNAPI": checker.check_nnapi_partitions(graph, True),
        "CoreML": checker.check_coreml_partitions(graph, True, "coreml_supported_mlprogram_ops.md"),
        "CoreML (neural network)": checker.check_coreml_partitions(
            graph, True, "coreml_supported_neuralnetwork_ops.md"
        ),
    }


def as_text(verdicts: Mapping[str, str]) -> str:
    """What :func:`accelerators` says, in one line: ``NNAPI yes, CoreML no (TopK), ...``."""
    return ", ".join(f"{name} {said}" for name, said in verdicts.items())


def _verdict(found: object) -> str:
    suitability = found.suitability().name
    if suitability == _YES:
        return "yes"
    operators = sorted(name.removeprefix("ai.onnx:") for name in found.unsupported_ops)
    reason = f" ({', '.join(operators)})" if operators else ""
    return suitability.lower() + reason
