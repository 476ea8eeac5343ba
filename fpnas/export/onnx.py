"""ONNX: one self-contained file, made by the dynamo exporter and run by ONNX Runtime.

Also its form in float16, and ONNX Runtime's own format.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

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
    session(draft, options, disabled_optimizers=["NchwcTransformer"])
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

    network = source.with_entry(apply_rewrites(source.model, source.rewrites))
    proto = trace(network, (source.example,), [INPUT], outputs, source.dynamic_shapes)
    # The exporter's notes: stack traces with local paths, half the size of small files.
    graph = proto.graph
    for item in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    del proto.graph.value_info[:]  # lists the weights, too; inference restores what is needed
    proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    onnx.helper.set_model_props(proto, dict(source.metadata))
    onnx.checker.check_model(proto, full_check=True)
    return proto


def trace(
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    input_names: list[str],
    output_names: list[str],
    dynamic_shapes: tuple[dict[int, Any], ...] | None = None,
) -> ModelProto:
    """The graph of ``network`` as PyTorch's exporter writes it, in eval mode."""
    with torch.no_grad():  # for gradients layers take detours
        return torch.onnx.export(
            network.eval(),  # of modules that are new, PyTorch would say that they are training
            inputs,
            dynamo=True,
            external_data=False,  # otherwise the weights go to a second file
            opset_version=OPSET,
            input_names=input_names,
            output_names=output_names,
            dynamic_shapes=dynamic_shapes,
            custom_translation_table=onnx_translations(),
            verbose=False,
        ).model_proto


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
    loaded = session(path, session_options(threads))
    return lambda images: loaded.run(outputs, {INPUT: images})


def session_options(threads: int) -> SessionOptions:
    """How we run ONNX Runtime: ``threads`` threads a call, and silent but for errors."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    return options


def session(model: Path | bytes, options: SessionOptions, **settings: Any) -> InferenceSession:
    """ONNX Runtime on the CPU for a file or the bytes of one."""
    import onnxruntime

    model = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], **settings
    )


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata that :func:`export` wrote."""
    return session(path, session_options(threads=1)).get_modelmeta().custom_metadata_map


def accelerators(path: Path) -> dict[str, str]:
    """What ONNX Runtime's own tool for mobile use thinks of the file.

    For NNAPI (Android) and CoreML (iOS, both of its formats).

    Values are ``"yes"`` (the graph runs there as a whole), ``"maybe"`` or ``"no"``, the latter two
    with the operators that are in the way. Empty, with a line in the log, if this ONNX Runtime has
    no such tool, another version of it, or one that cannot read the file: never raises.
    """
    try:
        from onnxruntime.tools.mobile_helpers import usability_checker as checker
        from onnxruntime.tools.onnx_model_utils import ModelProtoWithShapeInfo

        graph = ModelProtoWithShapeInfo(path).model_with_shape_info
        program, network = (
            checker.check_coreml_partitions(graph, True, f"coreml_supported_{form}_ops.md")
            for form in ("mlprogram", "neuralnetwork")
        )
        return {
            "NNAPI": _verdict(checker.check_nnapi_partitions(graph, True)),
            "CoreML": _verdict(program),
            "CoreML (neural network)": _verdict(network),
        }
    except Exception as error:  # advice only, by a tool without a stable interface
        logger.info("No verdict on accelerators of phones: %s: %s", type(error).__name__, error)
        return {}


def _verdict(found: object) -> str:
    suitability = found.suitability().name
    if suitability == "YES":
        return "yes"
    operators = sorted(name.removeprefix("ai.onnx:") for name in found.unsupported_ops)
    reason = f" ({', '.join(operators)})" if operators else ""
    return suitability.lower() + reason
