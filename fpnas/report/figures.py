"""Plots for reports: one look for all, as SVG that takes its ink from the page around it."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

from fpnas.report.run_files import Series

# Mid-tones that stand out from white and from near-black alike.
BLUE, ORANGE, TEAL, VIOLET, RED = "#3d84c6", "#d9692b", "#14958a", "#8f6bc4", "#d1495b"

# A colour that no plot has otherwise: it becomes the text colour of the page, dark or light.
_INK = "#010203"
_PALETTE = (RED, BLUE, ORANGE, TEAL, VIOLET, "#7f8c8d", "#a67c36", "#4f6d8f", "#6a9a3a")
_MARKERS = "os^Dvp<>X"
_MOST_POINTS = 600  # of a line; more cannot be seen and would only make the file large

_STYLE = {
    "figure.figsize": (5.6, 2.9),
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 15,
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.8,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.color": _INK,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",  # text stays text: small, sharp, searchable
    "svg.hashsalt": "fpnas",  # the same ids in every run
}


@dataclass(frozen=True)
class Line:
    """A curve of a plot.

    Attributes:
        label: for the legend.
        series: the points.
        color: of the curve.
        look: "smooth": a moving average over the faint points; "steps": constant between points;
            "points": every point marked; "line".
    """

    label: str
    series: Series
    color: str
    look: str = "line"


@dataclass(frozen=True)
class Level:
    """A horizontal line to compare with, such as a target."""

    label: str
    value: float


@dataclass(frozen=True)
class Mark:
    """A vertical line at an iteration at which something changed."""

    label: str
    iteration: int


def plot(
    title: str,
    unit: str,
    lines: Sequence[Line],
    *,
    levels: Sequence[Level] = (),
    marks: Sequence[Mark] = (),
    from_zero: bool = False,
    log: bool = False,
) -> str:
    """Curves over the iterations, as an SVG element; lines without points are left out.

    Args:
        title: what is shown.
        unit: label of the vertical axis.
        lines: the curves.
        levels, marks: lines to compare with.
        from_zero: the vertical axis starts at 0.
        log: the vertical axis is logarithmic.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title)
        axes.set_ylabel(unit)
        axes.set_xlabel("iteration")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.margins(x=0.01)
        for line in lines:
            if len(line.series):
                _draw(axes, line)
        for level in levels:
            axes.axhline(level.value, color=RED, lw=1.3, ls=(0, (5, 3)), label=level.label)
        if log:
            axes.set_yscale("log")
        if from_zero:
            axes.set_ylim(bottom=0)
        for mark in marks:
            axes.axvline(mark.iteration, color=_INK, alpha=0.45, lw=1, ls=(0, (1, 2)))
            place = axes.get_xaxis_transform()
            axes.text(mark.iteration, 1.0, f" {mark.label}", fontsize=8, alpha=0.7, transform=place)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best")
        return _to_svg(figure, prefix=re.sub(r"\W+", "-", title.lower()))


@dataclass(frozen=True)
class Points:
    """A family of a scatter plot.

    Attributes:
        label: for the legend.
        points: (x, y, name) in the order of the line.
        joined: by a thin line.
    """

    label: str
    points: tuple[tuple[float, float, str], ...]
    joined: bool = True


def scatter(
    title: str, x_label: str, y_label: str, groups: Sequence[Points], *, log_x: bool = False
) -> str:
    """Points in families, as an SVG element; the first family stands out and shows its names.

    Args:
        title: what is shown.
        x_label, y_label: quantities with their units.
        groups: the families.
        log_x: the horizontal axis is logarithmic.
    """
    with matplotlib.rc_context({**_STYLE, "figure.figsize": (7.2, 4.6)}):
        figure = Figure(layout="constrained")
        axes = figure.add_subplot()
        axes.set(title=title, xlabel=x_label, ylabel=y_label)
        if log_x:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(ScalarFormatter())
            axes.xaxis.set_minor_formatter(NullFormatter())
        for number, group in enumerate(groups):
            x, y, names = zip(*group.points, strict=True)
            look = {"lw": 2.2, "markersize": 6} if number == 0 else {"lw": 0.9, "markersize": 4}
            color = _PALETTE[number % len(_PALETTE)]
            marker = _MARKERS[number % len(_MARKERS)]
            line = "-" if group.joined else "none"
            axes.plot(x, y, ls=line, color=color, marker=marker, label=group.label, **look)
            for place in zip(x, y, names, strict=True) if number == 0 else ():
                axes.annotate(place[2], place[:2], (5, -9), textcoords="offset points", fontsize=8)
        axes.legend(loc="best")
        return _to_svg(figure, prefix=re.sub(r"\W+", "-", title.lower()))


def _draw(axes: Axes, line: Line) -> None:
    series = _thinned(line.series)
    x, y = series.iterations, series.values
    look = {"steps": {"drawstyle": "steps-post"}, "points": {"marker": "o", "markersize": 3.2}}
    if line.look == "smooth":
        axes.plot(x, y, color=line.color, lw=0.7, alpha=0.3)
        smooth = _thinned(_moving_average(line.series))
        x, y = smooth.iterations, smooth.values
    axes.plot(x, y, color=line.color, label=line.label, **look.get(line.look, {}))


def _moving_average(series: Series) -> Series:
    """Mean over a centred window of a 25th of all points, cut at the ends."""
    window = np.ones(2 * (len(series) // 50) + 1)
    total = np.convolve(series.values, window, mode="same")
    return Series(series.iterations, total / np.convolve(np.ones(len(series)), window, mode="same"))


def _thinned(series: Series) -> Series:
    """Every n-th point and the last."""
    step = -(-len(series) // _MOST_POINTS)
    if step <= 1:
        return series
    keep = np.unique(np.append(np.arange(0, len(series), step), len(series) - 1))
    return Series(series.iterations[keep], series.values[keep])


def _to_svg(figure: Figure, prefix: str) -> str:
    """The figure as an ``<svg>`` element that can stand in a page beside others."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    # Matplotlib counts its ids from 1 in every figure; in a page they must differ.
    return re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
