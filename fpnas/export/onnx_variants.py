"""Other precisions of the ONNX file, and ONNX Runtime's own format."""

from __future__ import annotations

from pathlib import Path

from fpnas.export import onnx
from fpnas.export.source import ExportSource


def export_fp16(source: ExportSource, path: Path) -> None:
    """Write ``path`` with weights and activations in float16; input and output stay as they are."""
    import onnx as onnx_format
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import convert_float_to_float16

    half = convert_float_to_float16(onnx.float_graph(source), keep_io_types=True)
    ONNXModel(half).topological_sort()  # its casts stand at the end
    onnx_format.checker.check_model(half, full_check=True)
    onnx.save(half, path)


def export_ort(source: ExportSource, path: Path) -> None:
    """Write ``path`` in the format that ONNX Runtime Mobile loads without a parser for ONNX.

    The graph is optimised, but for the layout of channels, which belongs to x86 processors.
    """
    import onnxruntime

    draft = path.with_suffix(".onnx")
    onnx.export(source, draft)
    options = onnx.session_options(threads=1)
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
