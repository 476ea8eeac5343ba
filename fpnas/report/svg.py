"""Small helpers to write SVG with the standard library."""

from __future__ import annotations

from xml.etree import ElementTree as ET

# Whatever the reader's system has; nothing is loaded.
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"


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
