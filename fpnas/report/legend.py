"""What the blocks of an architecture are: the legend of a drawing, and a table of layers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

from tabulate import tabulate

from fpnas.archs import Architecture
from fpnas.blocks import BlockSpec, ConvSpec, HeadSpec, SkipSpec, block_name, spec_to_dict
from fpnas.report.html import add, number, text

# Every class is used inside "fpnas-drawing" only, since a drawing may stand in an HTML page. The
# box colours carry white text at a contrast of 4.5 or more, on light and on dark paper.
STYLE = """
.fpnas-drawing {
  --paper: #ffffff; --frame: #f1f4f8; --ink: #1c2733; --soft: #5b6b7c; --wire: #b9c4d0;
  --track: #dde4ec; --share: #55677a; --plain: #5f6f80;
}
@media (prefers-color-scheme: dark) {
  .fpnas-drawing {
    --paper: #12181f; --frame: #1c252f; --ink: #e8eef4; --soft: #9fb0c0; --wire: #465666;
    --track: #2f3c49; --share: #a9bacb; --plain: #637487;
  }
}
.fpnas-drawing .paper { fill: var(--paper); }
.fpnas-drawing .frame { fill: var(--frame); }
.fpnas-drawing .ink { fill: var(--ink); }
.fpnas-drawing .soft { fill: var(--soft); }
.fpnas-drawing .wire { stroke: var(--wire); stroke-width: 2; }
.fpnas-drawing .bracket { fill: none; stroke: var(--wire); stroke-width: 1.2; }
.fpnas-drawing .track { fill: var(--track); }
.fpnas-drawing .share { fill: var(--share); }
.fpnas-drawing .badge { fill: var(--paper); stroke: var(--wire); stroke-width: 1.5; }
.fpnas-drawing .k1 { fill: #7a5c9e; }
.fpnas-drawing .k3 { fill: #2a6fb0; }
.fpnas-drawing .k5 { fill: #bd4f1c; }
.fpnas-drawing .k7 { fill: #0b7a6f; }
.fpnas-drawing .k9 { fill: #a33a6b; }
.fpnas-drawing .plain { fill: var(--plain); }
.fpnas-drawing .skip {
  fill: var(--paper); stroke: var(--soft); stroke-width: 1.4; stroke-dasharray: 4 3;
}
.fpnas-drawing .on-box { fill: #ffffff; }
.fpnas-drawing .on-skip { fill: var(--soft); }
.fpnas-drawing .splits { fill: #ffcf56; }
.fpnas-drawing .mark { fill: none; stroke-width: 1.7; stroke-linecap: round; }
.fpnas-drawing .mark.on-box { fill: none; stroke: #ffffff; }
.fpnas-drawing .mark.soft { fill: none; stroke: var(--soft); }
"""

_KERNELS = (1, 3, 5, 7, 9)
_ATTENTION = {1: "Squeeze-Excite", 2: "Split-Attention, 2 splits", 4: "Split-Attention, 4 splits"}
# Curves of the activations in a field 18 wide and 12 high, centred at (0, 0).
_CURVES = {
    "relu": "M-9 4H0L9 -5",
    "relu6": "M-9 4H-3L5 -4H9",
    "swish": "M-9 1C-6.5 1 -5.5 5.5 -2.5 5.5C1 5.5 3.5 -0.5 8 -5.5",
    "hswish": "M-9 1H-6L-3 5.5H-1.5L8 -5.5",
}

_LINE_HEIGHT = 22
_CHARACTER = 5.9  # mean width of a character of the legend, px


@dataclass(frozen=True)
class BoxStyle:
    """What is seen of a block: the colour's class, lines of text, activation and splits."""

    css_class: str
    lines: tuple[str, ...]
    activation: str = ""
    splits: int = 0


class Key(NamedTuple):
    """An entry of the legend: the kind of its symbol, the value shown, and what it means."""

    symbol: str
    value: str
    label: str


def box_style(spec: BlockSpec) -> BoxStyle:
    """How ``spec`` looks. A block type of the user's own shows its name and what it has of kernel,
    expansion, activation and splits."""
    if isinstance(spec, SkipSpec):
        return BoxStyle("skip", ())
    activation = str(getattr(spec, "act", ""))
    if isinstance(spec, HeadSpec):
        return BoxStyle("plain", ("1×1", "pool, fc"), activation)
    kernel = getattr(spec, "kernel", None)
    lines = [f"{kernel}×{kernel}" if kernel else block_name(spec)[:8]]
    expansion = getattr(spec, "expansion", None)
    if expansion is not None:
        lines.append(f"e {expansion:g}")
    coloured = kernel in _KERNELS and not isinstance(spec, ConvSpec)
    css_class = f"k{kernel}" if coloured else "plain"
    return BoxStyle(css_class, tuple(lines), activation, int(getattr(spec, "splits", 0)))


def describe(spec: BlockSpec, shown_elsewhere: Collection[str] = ("block", "channels")) -> str:
    """The fields of a block that are not shown elsewhere: ``kernel 3, act relu``."""
    fields = spec_to_dict(spec).items()
    return ", ".join(f"{name} {value}" for name, value in fields if name not in shown_elsewhere)


def entries(specs: Sequence[BlockSpec]) -> list[Key]:
    """The legend of the blocks that are there, and of nothing else."""
    styles = [box_style(spec) for spec in specs]
    classes = {style.css_class for style in styles}
    keys = [
        Key("box", f"k{kernel}", f"kernel {kernel}×{kernel}")
        for kernel in _KERNELS
        if f"k{kernel}" in classes
    ]
    if "skip" in classes:
        keys.append(Key("box", "skip", "skip: identity, or a 1×1 convolution"))
    for splits in sorted({style.splits for style in styles} - {0}):
        keys.append(Key("splits", str(splits), _ATTENTION.get(splits, f"{splits} splits")))
    for name in sorted({style.activation for style in styles} - {""}):
        keys.append(Key("activation", name, name))
    if any(spec.stride > 1 for spec in specs):
        keys.append(Key("badge", "/2", "stride"))
    if any(getattr(spec, "expansion", None) is not None for spec in specs):
        keys.append(Key("word", "e", "expansion"))
    keys.append(Key("word", "24", "output channels, as the box's width"))
    keys.append(Key("bar", "", "share of the FLOPs"))
    return keys


def height(keys: Sequence[Key], width: float) -> float:
    """Height of the legend when it is ``width`` wide, px."""
    return _LINE_HEIGHT * (1 + max(line for _, _, line in _places(keys, width))) + 6


def draw(parent: ET.Element, keys: Sequence[Key], x: float, y: float, width: float) -> None:
    """Draw the legend with its upper left corner at ``(x, y)``."""
    group = add(parent, "g", cls="legend")
    for key, left, line in _places(keys, width):
        middle = y + 14 + line * _LINE_HEIGHT
        _draw_symbol(group, key, x + left + 13, middle)
        text(group, x + left + 31, middle + 4, key.label, size=11, cls="soft", anchor="start")


def draw_activation(parent: ET.Element, name: str, centre: float, y: float, css_class: str) -> None:
    """The curve of an activation, or its name where we have no curve."""
    if name in _CURVES:
        place = f"translate({number(centre)} {number(y)})"
        add(parent, "path", d=_CURVES[name], transform=place, cls=f"mark {css_class}")
    else:
        text(parent, centre, y + 3, name[:6], size=8.5, cls=css_class)


def draw_splits(parent: ET.Element, splits: int, centre: float, y: float, width: float) -> None:
    """As many segments as the attention has splits."""
    if splits < 1:
        return
    gap = 2.5
    segment = (width - gap * (splits - 1)) / splits
    for i in range(splits):
        x = centre - width / 2 + i * (segment + gap)
        add(parent, "rect", x=x, y=y, width=segment, height=5, rx=1.5, cls="splits")


def _places(keys: Sequence[Key], width: float) -> Iterator[tuple[Key, float, int]]:
    """Every key with its left edge and its line."""
    left, line = 0.0, 0
    for key in keys:
        needed = 31 + _CHARACTER * len(key.label) + 16
        if left and left + needed > width:
            left, line = 0.0, line + 1
        yield key, left, line
        left += needed


def _draw_symbol(group: ET.Element, key: Key, x: float, y: float) -> None:
    if key.symbol == "box":
        add(group, "rect", x=x - 11, y=y - 7, width=22, height=14, rx=4, cls=key.value)
    elif key.symbol == "splits":
        add(group, "rect", x=x - 13, y=y - 7, width=26, height=14, rx=4, cls="plain")
        draw_splits(group, int(key.value), x, y - 2.5, 20)
    elif key.symbol == "activation":
        draw_activation(group, key.value, x, y, "soft")
    elif key.symbol == "badge":
        add(group, "circle", cx=x, cy=y, r=8.5, cls="badge")
        text(group, x, y + 3.5, key.value, size=9.5, cls="ink", weight="700")
    elif key.symbol == "bar":
        add(group, "rect", x=x - 12, y=y - 2.5, width=24, height=5, rx=2.5, cls="track")
        add(group, "rect", x=x - 12, y=y - 2.5, width=10, height=5, rx=2.5, cls="share")
    else:
        text(group, x, y + 4, key.value, size=10.5, cls="ink", weight="600")


# Of a block, in columns of their own or in the heading.
_SHOWN_ELSEWHERE = ("block", "channels", "num_classes")


def architecture_report(arch: Architecture, input_size: int | None = None) -> str:
    """A heading with the totals and a table of the layers with shapes and costs."""
    layers = arch.layers(input_size)
    rows: list[list[Any]] = [
        [
            layer.name,
            block_name(layer.spec),
            describe(layer.spec, _SHOWN_ELSEWHERE),
            f"{layer.in_channels} x {layer.in_size}²",
            f"{layer.spec.channels} x {layer.out_size}²",
            layer.cost.flops / 1e6,
            layer.cost.params / 1e3,
        ]
        for layer in layers
    ]
    flops, params = arch.flops(input_size), arch.params
    rows.append(["total", "", "", "", "", flops / 1e6, params / 1e3])
    headers = ["layer", "block", "", "input", "output", "FLOPs, M", "params, k"]
    heading = (
        f"{arch.name}: {layers[0].in_size} px, {arch.num_classes} classes, "
        f"{flops / 1e6:.2f} M FLOPs, {params / 1e6:.3f} M params"
    )
    return f"{heading}\n\n{tabulate(rows, headers, floatfmt=('', '', '', '', '', '.3f', '.2f'))}"
