"""An architecture as a table of text."""

from __future__ import annotations

from typing import Any

from tabulate import tabulate

from fpnas.archs import Architecture
from fpnas.blocks import block_name
from fpnas.report.legend import describe

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
