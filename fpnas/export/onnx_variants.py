"""Other precisions of the ONNX file, and ONNX Runtime's own format."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

from torch import Tensor, nn

from fpnas.export import onnx
from fpnas.export.source import ExportSource


class _Half(nn.Module):
    """A network that computes in float16 between float32 images and logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).half()

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images.half()).float()


def export_fp16(source: ExportSource, path: Path) -> None:
    """Write ``path`` with weights and activations in float16; input and output stay as they are."""
    onnx.export(dataclasses.replace(source, model=_Half(source.model)), path)


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
