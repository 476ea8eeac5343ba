"""ONNX: one self-contained file, made by the dynamo exporter and run by ONNX Runtime."""

from __future__ import annotations

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
    from onnxruntime import SessionOptions

# What the exporter writes without a version conversion; run by ONNX Runtime 1.14 and later.
OPSET = 18
INPUT = "images"
OUTPUT = "logits"


def export(source: ExportSource, path: Path) -> None:
    """Write ``path`` with input ``images`` and output ``logits``, after ``source.rewrites``."""
    save(float_graph(source), path)


def write(source: ExportSource, path: Path, outputs: list[str]) -> None:
    """Write ``path`` with input ``images`` and ``outputs``, see :func:`make_graph`."""
    save(make_graph(source, outputs), path)


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
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(path), session_options(threads), providers=["CPUExecutionProvider"]
    )
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
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(path), session_options(threads=1), providers=["CPUExecutionProvider"]
    )
    return session.get_modelmeta().custom_metadata_map


def _strip_traces(proto: ModelProto) -> None:
    """Remove the exporter's notes: stack traces with local paths, half the size of small files."""
    graph = proto.graph
    for item in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
