"""int8 ONNX: static quantisation with ONNX Runtime's quantiser, QDQ format, per channel."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fpnas.errors import UserError
from fpnas.export import onnx
from fpnas.export.parity import run_in_batches
from fpnas.export.quantization import CALIBRATION_METHODS, RECOMMENDED_IMAGES
from fpnas.export.source import ExportSource

logger = logging.getLogger(__name__)

# Images whose activations tell which layers suffer; each is held in memory for every tensor.
_DIAGNOSED_IMAGES = 16


def export(source: ExportSource, path: Path) -> None:
    """Write ``path``: 8-bit weights (a scale for each channel) and activations.

    Where more than ``source.quantization.max_drop`` is lost on its judge images, the layers whose
    output suffers most stay in float: 1, 2, 4, ... of them, until the loss is allowed. Raises
    UserError without calibration images.
    """
    settings = source.quantization
    if settings.calibration is None:
        raise UserError("int8 needs images to calibrate with: --calibration DIR.")
    if len(settings.calibration) < RECOMMENDED_IMAGES:
        logger.warning(
            "int8 is calibrated on %d images; take at least %d.",
            *(len(settings.calibration), RECOMMENDED_IMAGES),
        )
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, _quiet_quantizer():
        quantizer = _Quantizer(source, Path(folder), path)
        quantizer.run()
    _copy_metadata(source, path)


class _Quantizer:
    """One float graph and its quantisations."""

    def __init__(self, source: ExportSource, folder: Path, path: Path) -> None:
        self._settings = source.quantization
        self._folder, self._path = folder, path
        self._batch_size = 1 if source.dynamic_batch else len(source.example)
        self._float = folder / "float.onnx"
        self._prepared = folder / "prepared.onnx"
        # A gate of the map's size would be an 8-bit map more: plain Mul is faster in int8.
        rewrites = tuple(name for name in source.rewrites if name != "resize_gates")
        onnx.export(dataclasses.replace(source, rewrites=rewrites), self._float)

    def run(self) -> None:
        from onnxruntime.quantization import quant_pre_process

        quant_pre_process(str(self._float), str(self._prepared), skip_symbolic_shape=True)
        self._quantize(in_float=[])
        if self._settings.max_drop >= 100 or self._settings.judge is None:
            return
        reference = self._logits(self._float)
        drop = self._drop(reference)
        ranking = self._most_sensitive_first() if drop > self._settings.max_drop else []
        count = 1
        while drop > self._settings.max_drop and count <= len(ranking):
            self._quantize(in_float=ranking[:count])
            drop = self._drop(reference)
            logger.info("int8 with %d layers in float loses %.2f points.", count, drop)
            count *= 2
        if drop > self._settings.max_drop:
            raise UserError(
                f"int8 loses {drop:.2f} points, more than the {self._settings.max_drop:g} allowed, "
                f"with {min(count // 2, len(ranking))} layers in float."
            )

    def _quantize(self, in_float: list[str]) -> None:
        from onnxruntime.quantization import (
            CalibrationMethod,
            QuantFormat,
            QuantType,
            quantize_static,
        )

        quantize_static(
            str(self._prepared),
            str(self._path),
            _Reader(self._settings.calibration, self._batch_size),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=self._settings.weight_bits == 7,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=in_float,
            calibrate_method=CalibrationMethod[CALIBRATION_METHODS[self._settings.method]],
        )

    def _logits(self, file: Path) -> np.ndarray:
        return run_in_batches(onnx.load(file), self._settings.judge, self._batch_size)

    def _drop(self, reference: np.ndarray) -> float:
        """Percentage points of accuracy lost; without labels, images that changed their class."""
        quantized, exact = self._logits(self._path).argmax(1), reference.argmax(1)
        if self._settings.labels is None:
            return 100 * float(np.mean(quantized != exact))
        labels = self._settings.labels
        return 100 * float(np.mean(exact == labels) - np.mean(quantized == labels))

    def _most_sensitive_first(self) -> list[str]:
        """Names of the layers, by the signal-to-noise ratio of their outputs in the int8 graph."""
        import onnx as onnx_format
        from onnxruntime.quantization import qdq_loss_debug as debug

        activations = []
        for model in (self._prepared, self._path):
            observed = self._folder / f"observed-{model.name}"
            debug.modify_model_output_intermediate_tensors(str(model), str(observed))
            reader = _Reader(self._settings.calibration[:_DIAGNOSED_IMAGES], self._batch_size)
            activations.append(debug.collect_activations(str(observed), reader))
        matched = debug.create_activation_matching(activations[1], activations[0])
        errors = debug.compute_activation_error(matched)
        graph = onnx_format.load(str(self._prepared)).graph
        noise = {
            node.name: errors[node.output[0]]["qdq_err"]
            for node in graph.node
            if node.op_type in ("Conv", "Gemm", "MatMul", "Mul") and node.output[0] in errors
        }
        return sorted(noise, key=noise.__getitem__)


class _Reader:
    """Calibration images, a batch at a time, as ONNX Runtime's quantiser asks for them."""

    def __init__(self, images: np.ndarray, batch_size: int) -> None:
        whole = max(len(images) // batch_size, 1) * batch_size
        self._batches = iter(np.split(images[np.arange(whole) % len(images)], whole // batch_size))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {onnx.INPUT: np.ascontiguousarray(batch)}


def _copy_metadata(source: ExportSource, path: Path) -> None:
    import onnx as onnx_format

    proto = onnx_format.load(str(path))
    onnx_format.helper.set_model_props(proto, dict(source.metadata))
    onnx_format.checker.check_model(proto, full_check=True)
    onnx_format.save(proto, str(path))


@contextmanager
def _quiet_quantizer() -> Iterator[None]:
    """The quantiser logs advice on the root logger that has been followed here."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
