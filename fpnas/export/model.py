"""export_model: every requested format written, checked on real images and timed."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fpnas.data import Preprocessing
from fpnas.errors import UserError
from fpnas.export.checked import draft_of, first_line, size_bytes
from fpnas.export.formats import ExportFormat, get_formats
from fpnas.export.parity import compare, run_in_batches
from fpnas.export.report import ExportReport, write_json
from fpnas.export.rewrites import AUTO, expand_rewrites
from fpnas.export.source import (
    BakedNormalization,
    ExportSource,
    Quantization,
    prepare_source,
)
from fpnas.utils.file_io import make_writable
from fpnas.utils.machine import benchmark

logger = logging.getLogger(__name__)

REPORT_FILE = "export.json"


def export_model(
    model: nn.Module,
    output_dir: str | Path,
    formats: Iterable[str],
    input_size: int,
    images: Tensor,
    labels: Tensor | None = None,
    metadata: Mapping[str, Any] | None = None,
    batch_size: int = 1,
    dynamic_batch: bool = False,
    name: str = "model",
    warmup: int = 5,
    runs: int = 50,
    rewrites: Iterable[str] = (AUTO,),
    bake: Preprocessing | None = None,
    calibration: Tensor | None = None,
    int8_method: str = "minmax",
    int8_x86_safe: bool = True,
    int8_max_drop: float = 100.0,
) -> list[ExportReport]:
    """Export ``model`` to ``output_dir/name<suffix>`` in every one of ``formats``.

    Args:
        model: maps images (N, C, S, S) to logits (N, num_classes). Stays as it is.
        formats: names in EXPORT_FORMATS, or one of them.
        input_size: S, px.
        images: real images, preprocessed, float32 (N, C, S, S) with N >= 2. Each file is compared
            with the model on them.
        labels: int64 (N,). With them the accuracy of each file is measured, too.
        metadata: written into each file (preprocessing, class names, ...); values that are no text
            become JSON. The version of fpnas and the architecture are added.
        batch_size: images a call of the exported file.
        dynamic_batch: let the file take any number of images (slower in some runtimes).
        warmup, runs: calls before and during a timing.
        rewrites: of the ONNX graph, names in REWRITES, or one of them; "auto": those that help on
            this CPU; "phone": those after which NNAPI and CoreML take the whole graph. They change
            its speed, not its outputs.
        bake: normalise inside the graph, as this preprocessing says: the files then take uint8
            pixels (N, S, S, 3), resized and cropped.
        calibration: images like ``images`` that set the ranges of int8 activations.
        int8_method, int8_x86_safe, int8_max_drop: see
            :class:`fpnas.export.source.Quantization`.

    A format that fails, or whose file deviates from the model, leaves no file and does not stop the
    others. A file of the same name from an earlier call is replaced only by a good one. The reports
    are also written to ``output_dir/export.json``.

    Raises:
        ConfigError: unknown format or rewrite.
        UserError: a model, images, labels or folder that cannot be used. Nothing has been written
            then.
    """
    chosen = get_formats(formats)
    rewrites = expand_rewrites(rewrites)
    if batch_size < 1:
        raise UserError(f"Export batch size must be at least 1, found {batch_size}.")
    if Path(name).name != name:
        raise UserError(f"The export name is a file name without folders, found '{name}'.")
    _check_images(images, labels, input_size)
    images = images.detach().cpu().contiguous()
    reference = _reference_logits(model, images)
    folder = Path(output_dir)
    try:
        make_writable(folder)
    except OSError as error:
        raise UserError(
            f"Cannot write to the export folder '{folder}': {error.strerror}."
        ) from None
    entry = None if bake is None else BakedNormalization(bake)
    inputs = _as_inputs(images, entry)
    truth = None if labels is None else labels.cpu().numpy()
    quantization = Quantization(
        calibration=None if calibration is None else _as_inputs(calibration, entry).numpy(),
        judge=inputs.numpy(),
        labels=truth,
        method=int8_method,
        x86_safe=int8_x86_safe,
        max_drop=int8_max_drop,
    )
    source = prepare_source(
        model,
        inputs,
        metadata or {},
        batch_size,
        dynamic_batch,
        rewrites,
        entry=entry,
        quantization=quantization,
    )
    exporter = _Exporter(
        source, folder, name, batch_size, warmup, runs, inputs.numpy(), truth, reference
    )
    reports = [exporter.run(entry) for entry in chosen]
    write_json(reports, folder / REPORT_FILE)
    return reports


class _Deviates(Exception):
    """A file does not compute what the model computes; ``report`` says by how much."""

    def __init__(self, report: ExportReport) -> None:
        super().__init__(report.message)
        self.report = report


@dataclass(frozen=True)
class _Exporter:
    """What all formats of one call share."""

    source: ExportSource
    folder: Path
    name: str
    batch_size: int
    warmup: int
    runs: int
    images: np.ndarray
    labels: np.ndarray | None
    reference: np.ndarray

    def run(self, entry: ExportFormat) -> ExportReport:
        """Export to one format; its failure becomes the report's status."""
        missing = entry.missing_modules()
        if missing:
            hint = f"needs {', '.join(missing)}: pip install 'fpnas[{entry.extra}]'"
            return ExportReport(entry.name, "not installed", hint)
        logger.info("Exporting to %s ...", entry.name)
        try:
            return self._export(entry)
        except _Deviates as deviation:
            return deviation.report
        except Exception as error:  # third-party exporters raise whatever they like
            logger.debug("Export to %s failed", entry.name, exc_info=True)
            return ExportReport(entry.name, "failed", first_line(error))

    def _export(self, entry: ExportFormat) -> ExportReport:
        target = self.folder / f"{self.name}{entry.suffix}"
        with draft_of(target) as draft:
            remark = entry.export(self.source, draft)
            report = self._check(entry, draft)
            if report.status == "failed":
                raise _Deviates(report)
            report = replace(report, message=report.message or remark or "")
            if not entry.elsewhere:
                report = self._time(entry, draft, report)
            if entry.accelerators is not None:
                report = replace(report, accelerators=entry.accelerators(draft))
        return replace(report, file=target, usage=entry.usage.format(file=target))

    def _check(self, entry: ExportFormat, draft: Path) -> ExportReport:
        """Compare the file with the model on all images, if it runs here."""
        size = size_bytes(draft)
        if entry.elsewhere:
            return ExportReport(entry.name, "unverified", entry.elsewhere, size_bytes=size)
        logits = run_in_batches(
            entry.load(draft, 1), self.images, self.batch_size, self.source.dynamic_batch
        )
        parity = compare(self.reference, logits)
        status, message = parity.judge(entry.tolerance)
        measured = status != "unverified"  # otherwise the numbers are those of rounding noise
        accuracy = None
        if self.labels is not None:
            accuracy = 100.0 * float(np.mean(logits.argmax(axis=1) == self.labels))
        return ExportReport(
            entry.name,
            status,
            message,
            size_bytes=size,
            max_rel_error=parity.max_rel_error if measured else None,
            top1_agreement=parity.top1_agreement if measured else None,
            accuracy=accuracy,
        )

    def _time(self, entry: ExportFormat, draft: Path, report: ExportReport) -> ExportReport:
        """Add the time of one batch with one and with two threads."""
        batch = self.source.example[: self.batch_size].numpy()
        one, two = (
            benchmark(entry.load(draft, threads), batch, self.warmup, self.runs, threads).median_ms
            for threads in (1, 2)
        )
        return replace(report, ms_1_thread=one, ms_2_threads=two)


def _as_inputs(images: Tensor, entry: BakedNormalization | None) -> Tensor:
    """Preprocessed ``images`` as they enter the graph."""
    return images.contiguous() if entry is None else entry.pixels(images)


def _check_images(images: Tensor, labels: Tensor | None, input_size: int) -> None:
    expected = f"float32 images of shape (N, C, {input_size}, {input_size}) with N >= 2"
    found = f"{images.dtype} {tuple(images.shape)}"
    if images.dtype != torch.float32 or tuple(images.shape[2:]) != (input_size, input_size):
        raise UserError(f"Export needs {expected}, found {found}.")
    if len(images) < 2:
        raise UserError(f"Export needs {expected} to compare outputs, found {found}.")
    if not torch.isfinite(images).all():
        raise UserError("The images for the export check contain NaN or infinite pixels.")
    if labels is not None and tuple(labels.shape) != (len(images),):
        raise UserError(
            f"Export got {len(images)} images but labels of shape {tuple(labels.shape)}."
        )


def _reference_logits(model: nn.Module, images: Tensor) -> np.ndarray:
    """Logits of an eval-mode copy of ``model`` on the CPU, without any folding."""
    reference = copy.deepcopy(model).eval().to(device="cpu", dtype=torch.float32)
    size = f"{images.shape[2]}x{images.shape[3]}"
    try:
        with torch.inference_mode():
            outputs = [reference(batch) for batch in images.split(32)]
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"The model cannot take images of {size} px: {first_line(error)}"
        ) from error
    if not isinstance(outputs[0], Tensor):
        raise UserError(
            "export_model needs a model that returns logits (N, num_classes), found one that "
            f"returns a {type(outputs[0]).__name__}. For a backbone call export_backbone."
        )
    logits = torch.cat(outputs)
    if not torch.isfinite(logits).all():
        raise UserError(
            "The model's outputs are not finite on the given images: check its weights."
        )
    return logits.numpy()
