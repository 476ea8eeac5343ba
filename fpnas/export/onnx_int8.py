"""int8 ONNX: static quantisation with ONNX Runtime's quantiser, QDQ format, per channel."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fpnas.errors import UserError
from fpnas.export import onnx
from fpnas.export.parity import run_in_batches
from fpnas.export.source import CALIBRATION_METHODS, ExportSource
from fpnas.utils.machine import benchmark

if TYPE_CHECKING:
    from onnx import ModelProto

logger = logging.getLogger(__name__)

# Images on which each layer's part in the error is measured.
_PROBES = 16
# Calls of both files whose times are compared, and calls before them.
_ROUNDS, _WARMUP = 21, 3


def export(source: ExportSource, path: Path) -> str:
    """Write ``path``: 8-bit weights (a scale for each channel) and activations.

    Returns a remark on its speed against that of the float32 file on this CPU.

    Where more than ``source.quantization.max_drop`` is lost on its judge images, the most harmful
    layers are computed in float. Raises UserError without calibration images and if even that is
    not enough.
    """
    calibration = source.quantization.images()  # before warnings are silenced
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, _quiet_quantizer():
        quantizer = _Quantizer(source, calibration, Path(folder), path)
        quantizer.run()
        speed = quantizer.speed(source.example[:1].numpy())
    _finish(source, path)
    if speed < 1:
        return (
            f"slower than the float32 file on this CPU, {speed:.2f} times its speed: take that one "
            f"where size does not count"
        )
    return f"{speed:.2f} times the speed of the float32 file on this CPU"


class _Quantizer:
    """One float graph and its quantisation."""

    def __init__(
        self, source: ExportSource, calibration: np.ndarray, folder: Path, path: Path
    ) -> None:
        self._settings = source.quantization
        self._calibration = calibration
        self._folder, self._path = folder, path
        self._batch_size = 1 if source.dynamic_batch else len(source.example)
        self._float = folder / "float.onnx"
        self._prepared = folder / "prepared.onnx"
        self._weight_ranges: dict[str, list[dict[str, Any]]] = {}
        onnx.export(source, self._float)

    def run(self) -> None:
        import onnx as onnx_format
        from onnxruntime.quantization import quant_pre_process

        from fpnas.export import int8_graph

        with _changed(self._float, self._prepared) as proto:
            int8_graph.before_quantization(proto)
        quant_pre_process(str(self._prepared), str(self._prepared), skip_symbolic_shape=True)
        if self._settings.x86_safe:
            graph = onnx_format.load(str(self._prepared)).graph
            self._weight_ranges = int8_graph.overflow_safe_ranges(graph)
        self._quantize(self._path)
        if self._settings.max_drop >= 100 or self._settings.judge is None:
            return
        reference = self._logits(self._float, self._settings.judge)
        drop = self._drop(reference)
        if drop > self._settings.max_drop:
            self._keep_layers_in_float(reference, drop)

    def speed(self, image: np.ndarray) -> float:
        """Time of a call of the float file over that of the int8 file: median of ``_ROUNDS``."""
        batch = np.repeat(image, self._batch_size, axis=0)
        runs = [onnx.load(file) for file in (self._float, self._path)]
        ratios = []
        for _ in range(_WARMUP + _ROUNDS):  # in turns, so that both meet the same load
            slow, fast = (benchmark(run, batch, warmup=0, runs=1).median_ms for run in runs)
            ratios.append(slow / fast)
        return float(np.median(ratios[_WARMUP:]))

    def _quantize(
        self, path: Path, in_float: Iterable[str] = (), images: int | None = None
    ) -> None:
        """Write ``path`` with the nodes ``in_float`` left alone; calibrate on ``images`` images."""
        from onnxruntime.quantization import (
            CalibrationMethod,
            QuantFormat,
            QuantType,
            quantize_static,
        )

        from fpnas.export import int8_graph

        quantize_static(
            str(self._prepared),
            str(path),
            _Reader(self._calibration[:images], self._batch_size),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=sorted(in_float),
            calibrate_method=CalibrationMethod[CALIBRATION_METHODS[self._settings.method]],
            extra_options={"TensorQuantOverrides": self._weight_ranges},
        )
        with _changed(path, path) as proto:
            int8_graph.after_quantization(proto)

    def _keep_layers_in_float(self, reference: np.ndarray, drop: float) -> None:
        """Leave 1, 2, 4, ... of the most harmful groups of layers in float until that suffices."""
        ranking = self._most_harmful_first()
        count = 1
        while drop > self._settings.max_drop:
            in_float = {name for group in ranking[:count] for name in group}
            self._quantize(self._path, in_float)
            drop = self._drop(reference)
            logger.info("int8 with %d nodes in float loses %.2f points.", len(in_float), drop)
            if count >= len(ranking):
                break
            count *= 2
        if drop > self._settings.max_drop:
            raise UserError(
                f"int8 loses {drop:.2f} points, more than the {self._settings.max_drop:g} allowed "
                f"(EXPORT.INT8_MAX_DROP), whatever is kept in float."
            )

    def _most_harmful_first(self) -> list[list[str]]:
        """Groups of layers by how much of the logits' error goes when a group alone is in float."""
        import onnx as onnx_format

        from fpnas.export import int8_graph

        probes = self._calibration[:_PROBES]
        reference, probe = self._logits(self._float, probes), self._folder / "probe.onnx"
        errors = []
        groups = int8_graph.layer_groups(onnx_format.load(str(self._prepared)).graph)
        for group in groups:
            self._quantize(probe, group, _PROBES)
            errors.append(float(np.square(self._logits(probe, probes) - reference).sum()))
        return [groups[i] for i in np.argsort(errors)]

    def _logits(self, file: Path, images: np.ndarray) -> np.ndarray:
        return run_in_batches(onnx.load(file), images, self._batch_size)

    def _drop(self, reference: np.ndarray) -> float:
        """Percentage points of accuracy lost; without labels, images that changed their class."""
        quantized = self._logits(self._path, self._settings.judge).argmax(1)
        exact = reference.argmax(1)
        if self._settings.labels is None:
            return 100 * float(np.mean(quantized != exact))
        labels = self._settings.labels
        return 100 * float(np.mean(exact == labels) - np.mean(quantized == labels))


class _Reader:
    """Calibration images, a batch at a time, as ONNX Runtime's quantiser asks for them."""

    def __init__(self, images: np.ndarray, batch_size: int) -> None:
        whole = max(len(images) // batch_size, 1) * batch_size
        self._batches = iter(np.split(images[np.arange(whole) % len(images)], whole // batch_size))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {onnx.INPUT: np.ascontiguousarray(batch)}


@contextmanager
def _changed(path: Path, target: Path) -> Iterator[ModelProto]:
    """The graph of ``path``, to be changed; written to ``target`` afterwards."""
    import onnx as onnx_format

    proto = onnx_format.load(str(path))
    yield proto
    onnx.save(proto, target)


def _finish(source: ExportSource, path: Path) -> None:
    import onnx as onnx_format

    from fpnas.export import int8_graph

    with _changed(path, path) as proto:
        int8_graph.shorten_names(proto)
        onnx_format.helper.set_model_props(proto, dict(source.metadata))
        onnx_format.checker.check_model(proto, full_check=True)


@contextmanager
def _quiet_quantizer() -> Iterator[None]:
    """The quantiser logs advice on the root logger that has been followed here.

    That gives a root logger without handlers one, which would print later lines a second time.
    """
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
