"""What a quantised format needs to know beside the network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fpnas.config.checks import check_name
from fpnas.errors import ConfigError

# EXPORT.INT8_METHOD -> member of onnxruntime.quantization.CalibrationMethod
CALIBRATION_METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}

# Fewer images leave the ranges of activations to chance.
RECOMMENDED_IMAGES = 100


@dataclass(frozen=True)
class Quantization:
    """Images and limits of a static quantisation.

    Attributes:
        calibration: images that set the ranges of activations, ``[M, ...]`` as they enter the
            graph; None: formats that need them fail with a message.
        judge: images on which the loss by quantisation is measured, likewise.
        labels: int64 ``[N]`` of ``judge``; without them agreement with the float network counts.
        method: how ranges follow from activations, a key of CALIBRATION_METHODS.
        x86_safe: take weights small enough for the 16-bit sums of x86 processors without VNNI,
            which otherwise overflow (:mod:`fpnas.export.int8_weights`). ARM has no such limit.
        max_drop: accuracy (or agreement) that may be lost, percentage points. While more is lost,
            the most sensitive layers are kept in float. 100: all layers are quantised.
    """

    calibration: np.ndarray | None = None
    judge: np.ndarray | None = None
    labels: np.ndarray | None = None
    method: str = "minmax"
    x86_safe: bool = True
    max_drop: float = 100.0

    def __post_init__(self) -> None:
        check_name("EXPORT.INT8_METHOD", self.method, CALIBRATION_METHODS)
        if not self.max_drop >= 0:
            raise ConfigError(f"EXPORT.INT8_MAX_DROP must be at least 0, found {self.max_drop}.")
