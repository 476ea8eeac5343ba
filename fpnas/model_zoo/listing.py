"""What the zoo has, as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from fpnas.model_zoo.record import Metric, ZooRecord
from fpnas.model_zoo.weights import available_offline
from fpnas.model_zoo.zoo import ModelInfo, info
from fpnas.report.layer_table import architecture_report


def models_table(names: Sequence[str]) -> str:
    """One row a name: input size, classes, costs, and what is known of its weights."""
    rows = []
    for name in names:
        found = info(name)
        record = found.record
        size = found.arch.input_size if record is None else record.input_size
        costs = [found.arch.flops(size) / 1e6, found.arch.params / 1e6]
        rows.append([name, size, found.arch.num_classes, *costs, *_weights_columns(record)])
    headers = ["name", "input, px", "classes", "FLOPs, M", "params, M", "weights, MB", "top-1, %"]
    return tabulate(rows, headers, floatfmt=("", "", "", ".2f", ".2f", ".1f", ".1f"))


def _weights_columns(record: ZooRecord | None) -> list[float | None]:
    if record is None:
        return [None, None]
    top1 = record.metric("top1")
    return [record.size_bytes / 1e6, top1 and top1.value]


def model_report(name: str) -> str:
    """The record of a published network, if it is one, and the layers of its architecture."""
    found = info(name)
    size = None if found.record is None else found.record.input_size
    layers = architecture_report(found.arch, size)
    return layers if found.record is None else f"{_record_text(found)}\n\n{layers}"


def _record_text(found: ModelInfo) -> str:
    record = found.record
    state = "on this machine" if available_offline(record) else "to be downloaded when needed"
    pre = record.preprocessing
    rows = [
        ("trained on", record.dataset),
        *((f"{metric.name}, %", _metric_text(metric)) for metric in record.metrics),
        ("classes", _classes_text(record)),
        ("preprocessing", f"shorter side to {pre.resize_to} px ({pre.interpolation}), centre crop"),
        ("mean, std", f"{list(pre.mean)}, {list(pre.std)} of pixels in 0 to 1"),
        ("weights", f"{record.file}, {record.size_bytes / 1e6:.1f} MB, {state}"),
        ("sha256", record.sha256),
        ("recipe", record.recipe or "none of ours"),
        ("commit, seed, data", _provenance(record)),
        ("licence", record.licence),
        ("source", record.source),
    ]
    return f"{record.name}\n\n{tabulate(rows, tablefmt='plain', disable_numparse=True)}"


def _metric_text(metric: Metric) -> str:
    origin = f"published by {metric.published_by}" if metric.published_by else metric.command
    return f"{metric.value:g} on {metric.data} ({origin})"


def _classes_text(record: ZooRecord) -> str:
    names = record.class_names
    return f"{len(names)}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"


def _provenance(record: ZooRecord) -> str:
    values = (record.commit, record.seed, record.data_hash)
    return ", ".join("-" if value is None else str(value) for value in values)
