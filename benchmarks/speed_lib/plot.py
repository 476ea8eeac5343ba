"""Bars of the measured ratios and of the inference times, as an SVG file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fpnas.errors import UserError
from fpnas.report.figures import BLUE, ORANGE

# key -> label; every ratio compares with a plain network or with the sliced supernet (= 1)
_SUPERNET = {
    "step_ratio_median": "time of a step, ours / plain network",
    "peak_memory_ratio": "memory of a step, ours / plain network",
    "masked_time_ratio": "time, masked supernet / ours",
    "masked_memory_ratio": "memory, masked supernet / ours",
    "dnas_memory_ratio": "memory, all-choices supernet / ours",
}
_SUFFIX = "_us_per_mflop"


def draw(figures: Mapping[str, float], path: Path) -> None:
    """One panel for the supernet and one for the inference, each if ``figures`` has its keys.

    Raises UserError if there is nothing to draw.
    """
    ratios = [(label, figures[key]) for key, label in _SUPERNET.items() if key in figures]
    times = sorted(
        ((key.removesuffix(_SUFFIX), value) for key, value in figures.items() if _SUFFIX in key),
        key=lambda item: item[1],
    )
    panels = [
        (ratios, "Supernet (log scale)", "ratio", True),
        (times, "ONNX Runtime, one image", "µs per MFLOP", False),
    ]
    panels = [panel for panel in panels if panel[0]]
    if not panels:
        raise UserError("--plot draws the supernet and the inference; neither was measured.")
    rows = [len(panel[0]) for panel in panels]
    figure = Figure(figsize=(8, 0.9 * len(panels) + 0.34 * sum(rows)), layout="constrained")
    axes = figure.subplots(len(panels), squeeze=False, height_ratios=rows)[:, 0]
    for ax, (bars, title, unit, log) in zip(axes, panels, strict=True):
        _bars(ax, bars, title, unit, log)
    figure.savefig(path, format="svg", metadata={"Date": None})


def _bars(ax: Axes, bars: list[tuple[str, float]], title: str, unit: str, log: bool) -> None:
    labels, values = zip(*bars, strict=True)
    colors = [ORANGE if _is_alternative(label) else BLUE for label in labels]
    drawn = ax.barh(labels, values, color=colors, height=0.66, log=log)
    ax.bar_label(drawn, fmt="%.3g", padding=3, fontsize=8)
    ax.set_title(title, loc="left", fontsize=10, fontweight="bold")
    ax.set_xlabel(unit, fontsize=9)
    ax.tick_params(labelsize=9)
    ax.invert_yaxis()
    ax.margins(x=0.08)
    ax.spines[["top", "right"]].set_visible(False)
    if log:
        ax.axvline(1.0, color="0.4", lw=0.8)


def _is_alternative(label: str) -> bool:
    return "/ ours" in label or "ours" not in label
