"""Pieces of a report, one HTML file without scripts and without anything to load, and of SVG."""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import NamedTuple
from xml.etree import ElementTree as ET

from fpnas import __version__
from fpnas.utils.file_io import atomic_write


class Tile(NamedTuple):
    """A headline figure.

    Attributes:
        label, value, note: texts; the note is small and may be empty.
        share: fills a bar, in [0, 1]. None: no bar.
    """

    label: str
    value: str
    note: str = ""
    share: float | None = None


def escape(text: object) -> str:
    """Text for use in HTML."""
    return html.escape(str(text))


def tiles(items: Sequence[Tile]) -> str:
    """Headline figures side by side."""
    parts = []
    for item in items:
        bar = ""
        if item.share is not None:
            width = 100 * min(max(item.share, 0), 1)
            bar = f'<div class="bar"><i style="width:{width:.1f}%"></i></div>'
        parts.append(
            f'<div class="tile"><div class="label">{escape(item.label)}</div>'
            f'<div class="value">{escape(item.value)}</div>{bar}'
            f'<div class="note">{escape(item.note)}</div></div>'
        )
    return f'<div class="tiles">{"".join(parts)}</div>'


def notice(text: str) -> str:
    """A warning that nobody overlooks."""
    return f'<p class="notice">{escape(text)}</p>'


def section(title: str, *parts: str, note: str = "") -> str:
    """A part of the page under a heading; ``parts`` are HTML, ``note`` is text."""
    lead = f'<p class="lead">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{lead}{''.join(parts)}</section>"


def figures(svgs: Sequence[str]) -> str:
    """Plots in two columns where the window is wide enough."""
    return f'<div class="figures">{"".join(f"<figure>{svg}</figure>" for svg in svgs)}</div>'


def drawing(svg: str) -> str:
    """A drawing that scrolls sideways in a narrow window."""
    return f'<div class="drawing">{svg}</div>'


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], marked: int | None = None) -> str:
    """A table of texts; row number ``marked`` stands out."""
    head = "".join(f"<th>{escape(header)}</th>" for header in headers)
    body = []
    for i, row in enumerate(rows):
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
        body.append(f"<tr{' class=marked' if i == marked else ''}>{cells}</tr>")
    return (
        f'<div class="scroll"><table class="listing"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def folded(title: str, text: str) -> str:
    """Text that shows when its title is clicked."""
    return (
        f"<details><summary>{escape(title)}</summary><pre>{escape(text.rstrip())}</pre></details>"
    )


def write_page(path: Path, title: str, subtitle: str, sections: Sequence[str]) -> Path:
    """Write the page to ``path``, complete or not at all; returns ``path``."""
    template = resources.files("fpnas.report").joinpath("page.html").read_text(encoding="utf-8")
    page = Template(template).substitute(
        title=escape(title),
        subtitle=escape(subtitle),
        body="\n".join(sections),
        version=escape(__version__),
    )
    with atomic_write(path) as file:
        file.write(page.encode())
    return path


# -- SVG -------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """A coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def add(parent: ET.Element, tag: str, *, cls: str = "", **attributes: float | str) -> ET.Element:
    """Append ``<tag class=cls ...>``; ``_`` in attribute names stands for ``-``."""
    element = ET.SubElement(parent, tag, {"class": cls} if cls else {})
    for name, value in attributes.items():
        value = value if isinstance(value, str) else number(value)
        element.set(name.replace("_", "-"), value)
    return element


def text(
    parent: ET.Element,
    x: float,
    y: float,
    content: str,
    *,
    size: float,
    cls: str,
    weight: str = "400",
    anchor: str = "middle",
) -> None:
    """Append a line of text that starts, ends or is centred at ``x``, as ``anchor`` says."""
    element = add(parent, "text", x=x, y=y, font_size=size, cls=cls)
    if weight != "400":
        element.set("font-weight", weight)
    if anchor != "start":
        element.set("text-anchor", anchor)
    element.text = content
