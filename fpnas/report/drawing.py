"""An architecture as a drawing: one box a block, in order of execution, grouped by stage."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import groupby
from xml.etree import ElementTree as ET

from fpnas.archs import Architecture, Layer
from fpnas.blocks import SkipSpec, block_name
from fpnas.report import legend
from fpnas.report.html import add, number, text
from fpnas.report.units import percent, prefixed

# Whatever the reader's system has; nothing is loaded.
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"
# Everything below is in px of the drawing.
_MARGIN = 24
_MIN_WIDTH, _EXTRA_WIDTH = 38, 44  # of a box: the least, and what the most channels add
_MIN_HEIGHT, _HEIGHT_PER_HALVING = 74, 15  # of a box: at the last resolution, and per doubling
_GAP = 5  # between boxes of a stage
_PADDING = 8  # between a stage's frame and its boxes
_STAGE_GAP = 8
_MAX_ROW = 980
_MIN_CANVAS = 700
_HEADER = 74
_BAR_WIDTH, _BAR_HEIGHT = 30, 5
_ABOVE, _BELOW = 42, 42  # room in a stage's frame above and below the tallest box
_BRACKET = 30  # room for the resolutions below the frames


@dataclass(frozen=True)
class _Box:
    """A block and its place in the drawing."""

    layer: Layer
    x: float
    width: float
    height_in: float
    height_out: float
    flops_share: float


@dataclass(frozen=True)
class _Stage:
    """A frame around the blocks of a stage (or around the stem, or the head)."""

    label: str
    x: float
    width: float
    boxes: tuple[_Box, ...]


@dataclass(frozen=True)
class _Row:
    stages: tuple[_Stage, ...]
    width: float
    height: float  # of the tallest box


def draw_architecture(arch: Architecture, input_size: int | None = None) -> str:
    """The architecture as a self-contained SVG text, readable on light and on dark screens.

    A box's width stands for its output channels, the height of its edges for the resolution before
    and after it, its colour for the kernel, the golden segments at its foot for the splits of the
    attention. The bar below a box shows its share of the FLOPs. Every box has a tooltip with all
    numbers and is a ``<g class="block">``.

    Args:
        arch: what to draw.
        input_size: px, for resolutions and FLOPs. None: the architecture's own.
    """
    size = arch.input_size if input_size is None else input_size
    layers = arch.layers(size)
    rows = _arrange(layers)
    keys = legend.entries([layer.spec for layer in layers])
    canvas = max(_MIN_CANVAS, max(row.width for row in rows) + 2 * _MARGIN)
    heights = [_ABOVE + row.height + _BELOW + _BRACKET for row in rows]
    legend_height = legend.height(keys, canvas - 2 * _MARGIN)
    height = _HEADER + sum(heights) + legend_height + _MARGIN / 2

    svg = _canvas(canvas, height, f"Drawing of the architecture {arch.name}")
    _draw_header(svg, arch, layers, size)
    largest = max(box.flops_share for row in rows for s in row.stages for box in s.boxes)
    top = float(_HEADER)
    for row, row_height in zip(rows, heights, strict=True):
        _draw_row(svg, row, top, largest)
        top += row_height
    legend.draw(svg, keys, _MARGIN, top, canvas - 2 * _MARGIN)
    return ET.tostring(svg, encoding="unicode")


# -- layout ----------------------------------------------------------------------------------------


def _arrange(layers: list[Layer]) -> list[_Row]:
    """Boxes in stages in rows of about equal length, broken between stages."""
    total = sum(layer.cost.flops for layer in layers) or 1
    # The head is many times wider than any block; it gets the greatest width without the scale.
    most_channels = max(layer.spec.channels for layer in layers[:-1])
    last_size = max(layers[-1].out_size, 1)

    def height(size: int) -> float:
        return _MIN_HEIGHT + _HEIGHT_PER_HALVING * math.log2(max(size / last_size, 1))

    def box(layer: Layer, x: float) -> _Box:
        width = _MIN_WIDTH + _EXTRA_WIDTH * min(layer.spec.channels / most_channels, 1)
        edges = height(layer.in_size), height(layer.out_size)
        return _Box(layer, x, width, *edges, layer.cost.flops / total)

    stages = []
    for label, members in groupby(layers, key=lambda layer: layer.name.partition(".")[0]):
        boxes, x = [], float(_PADDING)
        for layer in members:
            boxes.append(box(layer, x))
            x += boxes[-1].width + _GAP
        stages.append(_Stage(label, 0.0, x - _GAP + _PADDING, tuple(boxes)))
    return [_row(part) for part in _break_into_rows(stages)]


def _break_into_rows(stages: list[_Stage]) -> list[list[_Stage]]:
    """As few rows as _MAX_ROW allows, each about as long as the others."""
    total = sum(stage.width + _STAGE_GAP for stage in stages)
    wanted = total / math.ceil(total / _MAX_ROW)
    rows: list[list[_Stage]] = [[]]
    done = 0.0
    for stage in stages:
        # A stage belongs to the row in which its middle lies.
        if rows[-1] and done + stage.width / 2 > wanted * len(rows):
            rows.append([])
        rows[-1].append(stage)
        done += stage.width + _STAGE_GAP
    return rows


def _row(stages: list[_Stage]) -> _Row:
    placed, x = [], 0.0
    for stage in stages:
        placed.append(replace(stage, x=x))
        x += stage.width + _STAGE_GAP
    tallest = max(max(box.height_in, box.height_out) for stage in stages for box in stage.boxes)
    return _Row(tuple(placed), x - _STAGE_GAP, tallest)


# -- drawing ---------------------------------------------------------------------------------------


def _canvas(width: float, height: float, label: str) -> ET.Element:
    svg = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "class": "fpnas-drawing",
            "viewBox": f"0 0 {number(width)} {number(height)}",
            "width": number(width),
            "height": number(height),
            "font-family": _FONT,
            "role": "img",
            "aria-label": label,
        },
    )
    add(svg, "style").text = legend.STYLE
    add(svg, "rect", width=width, height=height, rx=14, cls="paper")
    return svg


def _draw_header(svg: ET.Element, arch: Architecture, layers: list[Layer], size: int) -> None:
    text(svg, _MARGIN, 34, arch.name, size=20, cls="ink", weight="700", anchor="start")
    skipped = sum(isinstance(block, SkipSpec) for block in arch.blocks)
    blocks = f"{len(arch.blocks)} blocks" + (f", {skipped} of them skips" if skipped else "")
    facts = [
        prefixed(sum(layer.cost.flops for layer in layers), "FLOPs"),
        prefixed(arch.params, "params"),
        f"input {size} × {size}",
        f"{arch.num_classes} classes",
        blocks,
    ]
    text(svg, _MARGIN, 55, "  ·  ".join(facts), size=12.5, cls="soft", anchor="start")


def _draw_row(svg: ET.Element, row: _Row, top: float, largest_share: float) -> None:
    group = add(svg, "g", transform=f"translate({_MARGIN} {number(top)})")
    axis = _ABOVE + row.height / 2
    for stage in row.stages:
        frame_height = _ABOVE + row.height + _BELOW
        add(group, "rect", x=stage.x, width=stage.width, height=frame_height, rx=9, cls="frame")
        label = stage.label.replace("stage", "stage ")
        if len(stage.boxes) == 1:
            label = stage.label.removeprefix("stage")
        text(group, stage.x + stage.width / 2, 16, label, size=10.5, cls="soft", weight="600")
    first, last = row.stages[0], row.stages[-1]
    ends = {"x1": first.x, "x2": last.x + last.width}
    add(group, "line", **ends, y1=axis, y2=axis, cls="wire")
    for stage in row.stages:
        for box in stage.boxes:
            _draw_box(group, box, stage.x + box.x, axis, row.height, largest_share)
    _draw_resolutions(group, row, _ABOVE + row.height + _BELOW)


def _draw_resolutions(group: ET.Element, row: _Row, top: float) -> None:
    """A bracket below all boxes of one output resolution."""
    placed = [(box, stage.x + box.x) for stage in row.stages for box in stage.boxes]
    for out_size, members in groupby(placed, key=lambda item: item[0].layer.out_size):
        boxes = list(members)
        left, right = boxes[0][1], boxes[-1][1] + boxes[-1][0].width
        d = f"M{number(left)} {number(top + 5)}v4H{number(right)}v-4"
        add(group, "path", d=d, cls="bracket")
        wide = right - left > 50
        label = f"{out_size} × {out_size}" if wide else f"{out_size}²"
        text(group, (left + right) / 2, top + 22, label, size=10.5, cls="soft")


def _draw_box(
    parent: ET.Element, box: _Box, x: float, axis: float, row_height: float, largest_share: float
) -> None:
    spec, centre = box.layer.spec, x + box.width / 2
    group = add(parent, "g", cls="block")
    add(group, "title").text = _tooltip(box)
    identity = isinstance(spec, SkipSpec) and spec.is_identity(box.layer.in_channels)
    style = legend.box_style(spec)
    add(group, "path", d=_outline(box, x, axis), cls=f"box {style.css_class}")

    top_of_box = axis - (box.height_in + box.height_out) / 4
    foot = axis + (box.height_in + box.height_out) / 4
    ink = "on-skip" if isinstance(spec, SkipSpec) else "on-box"
    text(group, centre, top_of_box - 6, str(spec.channels), size=10.5, cls="ink", weight="600")
    lines = ["skip" if identity else "1×1"] if isinstance(spec, SkipSpec) else style.lines
    if style.activation:
        legend.draw_activation(group, style.activation, centre, top_of_box + 12, ink)
    for i, line in enumerate(lines):
        y = axis + 4 + 13 * (i - (len(lines) - 1) / 2)
        text(group, centre, y, line, size=11 if i == 0 else 9.5, cls=ink, weight="600")
    legend.draw_splits(group, style.splits, centre, foot - 11, box.width - 12)
    if spec.stride > 1:
        room = _PADDING + _STAGE_GAP / 2 if box.x == _PADDING else _GAP / 2
        # A badge on the wire in front of the box in which the resolution falls.
        add(group, "circle", cx=x - room, cy=axis, r=9, cls="badge")
        label = f"/{spec.stride}"
        text(group, x - room, axis + 3.5, label, size=9.5, cls="ink", weight="700")
    _draw_flops_share(group, box, centre, _ABOVE + row_height + 10, largest_share)


def _outline(box: _Box, x: float, axis: float) -> str:
    """A box with round corners, whose edges are as high as the resolutions beside them."""
    left, right, r = box.height_in / 2, box.height_out / 2, 6.0
    end = x + box.width
    points = [(x, axis - left), (end, axis - right), (end, axis + right), (x, axis + left)]
    parts = []
    for i, corner in enumerate(points):
        before = _towards(corner, points[i - 1], r)
        after = _towards(corner, points[(i + 1) % 4], r)
        parts.append(f"{'L' if i else 'M'}{_pair(before)}Q{_pair(corner)} {_pair(after)}")
    return "".join(parts) + "Z"


def _towards(start: tuple[float, float], end: tuple[float, float], distance: float) -> tuple:
    share = distance / math.dist(start, end)
    return tuple(a + share * (b - a) for a, b in zip(start, end, strict=True))


def _pair(point: tuple[float, float]) -> str:
    return f"{number(point[0])} {number(point[1])}"


def _draw_flops_share(
    group: ET.Element, box: _Box, centre: float, y: float, largest_share: float
) -> None:
    width = min(_BAR_WIDTH, box.width)
    x = centre - width / 2
    add(group, "rect", x=x, y=y, width=width, height=_BAR_HEIGHT, rx=2.5, cls="track")
    filled = width * box.flops_share / largest_share if largest_share else 0
    if filled > 0:
        add(group, "rect", x=x, y=y, width=max(filled, 1), height=_BAR_HEIGHT, rx=2.5, cls="share")
    label = percent(box.flops_share) if box.flops_share else "0"
    text(group, centre, y + 18, label.replace(" ", "\u202f"), size=9, cls="soft")


def _tooltip(box: _Box) -> str:
    layer, spec = box.layer, box.layer.spec
    choices = legend.describe(spec)
    return "\n".join(
        [
            f"{layer.name}: {block_name(spec)}" + (f", {choices}" if choices else ""),
            f"{layer.in_channels} × {layer.in_size}² to {spec.channels} × {layer.out_size}²",
            f"{prefixed(layer.cost.flops, 'FLOPs')} ({percent(box.flops_share)}), "
            f"{prefixed(layer.cost.params, 'params')}",
        ]
    )
