"""What every exporter starts from: the prepared network, an example input and the metadata."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import fpnas
from fpnas.export.entry import BakedNormalization
from fpnas.export.quantization import Quantization
from fpnas.export.rewrites import AUTO, expand_rewrites
from fpnas.export.rewrites.modules import fold_bn

# Takes images as the graph's input wants them and returns logits (N, num_classes) as float32.
Runner = Callable[[np.ndarray], np.ndarray]


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

    ``images`` are as they enter the graph, behind which stands ``entry``.
    """
    folded = fold_bn(model).to(
        device="cpu", dtype=torch.float32, memory_format=torch.contiguous_format
    )
    folded.requires_grad_(False)
    count = max(2, batch_size) if dynamic_batch else batch_size
    example = images[torch.arange(count) % len(images)].contiguous()
    described = {"shape": list(example[:batch_size].shape), "dtype": str(example.dtype)[6:]}
    complete = _complete_metadata(model, {"input": described, **metadata})
    return ExportSource(
        folded,
        example,
        complete,
        dynamic_batch,
        expand_rewrites(rewrites),
        entry,
        quantization or Quantization(),
    )


def _complete_metadata(model: nn.Module, metadata: Mapping[str, Any]) -> dict[str, str]:
    """``metadata`` as text (JSON unless it is text already), with version and architecture."""
    complete: dict[str, Any] = {"fpnas_version": fpnas.__version__}
    if hasattr(model, "arch"):
        complete["architecture"] = model.arch.to_yaml()
    complete.update(metadata)
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in complete.items()
    }


def torch_runner(program: Callable[[Tensor], Tensor]) -> Runner:
    """A loaded PyTorch program as a function from images to logits, NumPy arrays both."""

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return program(torch.from_numpy(images)).numpy()

    return run
