"""What every exporter starts from: the prepared network, an example input and the metadata.

Also what may stand in front of the network, and what formats in 8 bits need to know.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import fpnas
from fpnas.config.checks import check_name
from fpnas.data import Preprocessing
from fpnas.errors import ConfigError, UserError
from fpnas.export.rewrites import AUTO, expand_rewrites
from fpnas.export.rewrites.modules import fold_bn

logger = logging.getLogger(__name__)

# Takes images as the graph's input wants them and returns logits (N, num_classes) as float32.
Runner = Callable[[np.ndarray], np.ndarray]

# EXPORT.INT8_METHOD -> member of onnxruntime.quantization.CalibrationMethod
CALIBRATION_METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}

# Fewer images leave the ranges of activations to chance.
RECOMMENDED_IMAGES = 100

# Preprocessed images that came from 8-bit pixels are met to within float rounding.
_PIXEL_TOLERANCE = 1e-4


class BakedNormalization(nn.Module):
    """uint8 ``[N, S, S, 3]`` RGB -> normalised float32 ``[N, 3, S, S]``, inside the graph.

    Resizing and cropping stay with the caller; the graph's metadata says how.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
        # One multiplication and one addition: x / 255 / std - mean / std.
        self.register_buffer("scale", (1 / (255 * std)).reshape(1, 3, 1, 1))
        self.register_buffer("shift", (-mean / std).reshape(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.permute(0, 3, 1, 2).float() * self.scale + self.shift

    def pixels(self, images: Tensor) -> Tensor:
        """The inverse: normalised float32 ``[N, 3, S, S]`` -> uint8 ``[N, S, S, 3]``.

        Raises UserError if ``images`` were not 8-bit pixels normalised with this mean and std.
        """
        exact = (images - self.shift) / self.scale
        pixels = exact.round().clamp(0, 255)
        if (self.forward(pixels.permute(0, 2, 3, 1)) - images).abs().max() > _PIXEL_TOLERANCE:
            raise UserError(
                "The images for the export check are not 8-bit RGB pixels normalised with the "
                "given mean and std, so the normalisation cannot be baked into the graph."
            )
        return pixels.byte().permute(0, 2, 3, 1).contiguous()


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
            which otherwise overflow (:func:`fpnas.export.int8_graph.overflow_safe_ranges`). ARM has
            no such limit.
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

    def images(self) -> np.ndarray:
        """``calibration``; warns of few. Raises UserError if there are none."""
        if self.calibration is None:
            raise UserError("int8 needs images to calibrate with: --calibration DIR.")
        if len(self.calibration) < RECOMMENDED_IMAGES:
            logger.warning(
                "int8 is calibrated on %d images; take at least %d.",
                *(len(self.calibration), RECOMMENDED_IMAGES),
            )
        return self.calibration


@dataclass(frozen=True)
class ExportSource:
    """Input of an exporter. Exporters read it and leave it as it is.

    ``model``: eval mode, CPU, float32, BatchNorm folded, no gradients; takes normalised images.
    ``example``: a batch of B images as they enter the graph, float32 (B, C, S, S), or uint8
    (B, S, S, 3) with an ``entry``; B is the batch size of the exported file, or at least 2 when
    ``dynamic_batch`` (torch.export takes a batch of 1 for a constant).
    ``metadata``: goes into the file as text.
    ``rewrites``: what the ONNX exporter applies, see :func:`fpnas.export.rewrites.expand_rewrites`.
    ``entry``: normalises the images inside the graph, in front of the model.
    ``quantization``: what int8 formats need.
    ``made``: what several formats start from, kept by the one that made it first. A source made by
    ``dataclasses.replace`` starts without.
    """

    model: nn.Module
    example: Tensor
    metadata: Mapping[str, str]
    dynamic_batch: bool = False
    rewrites: tuple[str, ...] = (AUTO,)
    entry: BakedNormalization | None = None
    quantization: Quantization = field(default_factory=Quantization)
    made: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def network(self) -> nn.Module:
        """Entry and model as one."""
        return self.with_entry(self.model)

    def with_entry(self, model: nn.Module) -> nn.Module:
        """``model`` behind this source's entry."""
        return model if self.entry is None else nn.Sequential(self.entry, model).eval()

    def program(self) -> torch.export.ExportedProgram:
        """The network as torch.export traces it; without gradients, for which layers take detours.

        Raises whatever torch.export finds.
        """
        with torch.no_grad():
            return torch.export.export(
                self.network, (self.example,), dynamic_shapes=self.dynamic_shapes, strict=False
            )

    @property
    def dynamic_shapes(self) -> tuple[dict[int, Any]] | None:
        """The argument of that name of torch.export and torch.onnx: axis 0 of the images."""
        return ({0: torch.export.Dim("batch")},) if self.dynamic_batch else None


def prepare_source(
    model: nn.Module,
    images: Tensor,
    metadata: Mapping[str, Any],
    batch_size: int,
    dynamic_batch: bool,
    rewrites: Iterable[str] = (AUTO,),
    *,
    entry: BakedNormalization | None = None,
    quantization: Quantization | None = None,
) -> ExportSource:
    """Fold the BatchNorms of a copy of ``model`` and take the example from ``images``.

    ``images`` are as they enter the graph, behind which stands ``entry``. ``metadata`` becomes text
    (JSON unless it is text already), with the version of fpnas and the architecture.
    """
    folded = fold_bn(model).to(
        device="cpu", dtype=torch.float32, memory_format=torch.contiguous_format
    )
    folded.requires_grad_(False)
    count = max(2, batch_size) if dynamic_batch else batch_size
    example = images[torch.arange(count) % len(images)].contiguous()
    described = {"shape": list(example[:batch_size].shape), "dtype": str(example.dtype)[6:]}
    complete: dict[str, Any] = {"fpnas_version": fpnas.__version__}
    if hasattr(model, "arch"):
        complete["architecture"] = model.arch.to_yaml()
    complete |= {"input": described, **metadata}
    return ExportSource(
        folded,
        example,
        {key: v if isinstance(v, str) else json.dumps(v) for key, v in complete.items()},
        dynamic_batch,
        expand_rewrites(rewrites),
        entry,
        quantization or Quantization(),
    )


def torch_runner(program: Callable[[Tensor], Tensor]) -> Runner:
    """A loaded PyTorch program as a function from images to logits, NumPy arrays both."""

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return program(torch.from_numpy(images)).numpy()

    return run
