"""ONNX: one self-contained file, made by the dynamo exporter and run by ONNX Runtime.

Also its form in float16, and ONNX Runtime's own format.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from fpnas.export.rewrites import apply_rewrites
from fpnas.export.rewrites.operators import onnx_translations
from fpnas.export.source import ExportSource, Runner

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime import InferenceSession, SessionOptions

logger = logging.getLogger(__name__)

# What the exporter writes without a version conversion; run by ONNX Runtime 1.14 and later.
OPSET = 18
INPUT = "images"
OUTPUT = "logits"


def export(source: ExportSource, path: Path) -> None:
    """Write ``path`` with input ``images`` and output ``logits``, after ``source.rewrites``."""
    save(float_graph(source), path)


def export_fp16(source: ExportSource, path: Path) -> None:
    """Write ``path`` with weights and activations in float16; input and output stay as they are."""
    import onnx
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import convert_float_to_float16

    half = convert_float_to_float16(float_graph(source), keep_io_types=True)
    ONNXModel(half).topological_sort()  # its casts stand at the end
    onnx.checker.check_model(half, full_check=True)
    save(half, path)


def export_ort(source: ExportSource, path: Path) -> None:
    """Write ``path`` in the format that ONNX Runtime Mobile loads without a parser for ONNX.

    The graph is optimised, but for the layout of channels, which belongs to x86 processors.
    """
    import onnxruntime

    draft = path.with_suffix(".onnx")
    export(source, draft)
    options = session_options(threads=1)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(
        str(draft),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["NchwcTransformer"],
    )
    draft.unlink()


def float_graph(source: ExportSource) -> ModelProto:
    """A copy of the graph of ``source`` that :func:`export` writes; several formats start from it.

    PyTorch's exporter takes seconds, so it runs once for a source.
    """
    import onnx

    if "onnx" not in source.made:
        source.made["onnx"] = make_graph(source, [OUTPUT])
    copy = onnx.ModelProto()
    copy.CopyFrom(source.made["onnx"])
    return copy


def make_graph(source: ExportSource, outputs: list[str]) -> ModelProto:
    """The graph with input ``images`` and ``outputs``, names for those of the model in order.

    It has passed shape inference and the full check of ``onnx.checker``. Raises whatever
    the exporter or the checker finds.
    """
    import onnx

    with torch.no_grad():  # for gradients layers take detours
        program = torch.onnx.export(
            # Of modules that are new, PyTorch would say that they are in training mode.
            source.with_entry(apply_rewrites(source.model, source.rewrites)).eval(),
            (source.example,),
            dynamo=True,
            external_data=False,  # otherwise the weights go to a second file
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=outputs,
            dynamic_shapes=source.dynamic_shapes,
            custom_translation_table=onnx_translations(),
            verbose=False,
        )
    proto = program.model_proto
    _strip_traces(proto)
    del proto.graph.value_info[:]  # lists the weights, too; inference restores what is needed
    proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    onnx.helper.set_model_props(proto, dict(source.metadata))
    onnx.checker.check_model(proto, full_check=True)
    return proto


def save(proto: ModelProto, path: Path) -> None:
    """Write ``path``, one self-contained file."""
    import onnx

    onnx.save(proto, str(path))


def load(path: Path, threads: int = 1) -> Runner:
    """An ONNX Runtime session on the CPU with ``threads`` threads, as a function of the images."""
    run = load_outputs(path, [OUTPUT], threads)
    return lambda images: run(images)[0]


def load_outputs(
    path: Path, outputs: list[str] | None, threads: int = 1
) -> Callable[[np.ndarray], list[np.ndarray]]:
    """As :func:`load`, for several outputs; None: all that the file has."""
    session = _session(path, threads)
    return lambda images: session.run(outputs, {INPUT: images})


def session_options(threads: int) -> SessionOptions:
    """How we run ONNX Runtime: ``threads`` threads a call, and silent but for errors."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    return options


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata that :func:`export` wrote."""
    return _session(path, threads=1).get_modelmeta().custom_metadata_map


def _session(path: Path, threads: int) -> InferenceSession:
    import onnxruntime

    return onnxruntime.InferenceSession(
        str(path), session_options(threads), providers=["CPUExecutionProvider"]
    )


def _strip_traces(proto: ModelProto) -> None:
    """Remove the exporter's notes: stack traces with local paths, half the size of small files."""
    graph = proto.graph
    for item in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")


def accelerators(path: Path) -> dict[str, str]:
    """Which accelerators of phones take the graph, by ONNX Runtime's own tool for mobile use.

    For NNAPI (Android) and CoreML (iOS, both of its formats) what the tool thinks of the file.

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


def _verdict(found: object) -> str:
    suitability = found.suitability().name
    if suitability == "YES":
        return "yes"
    operators = sorted(name.removeprefix("ai.onnx:") for name in found.unsupported_ops)
    reason = f" ({', '.join(operators)})" if operators else ""
    return suitability.lower() + reason
