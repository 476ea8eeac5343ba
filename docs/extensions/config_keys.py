"""All config keys as a page: made from the comments in fpnas/config/defaults.py.

As an extension of Sphinx it puts the list where a page has ``<!-- config keys -->``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import fpnas.config

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PLACEHOLDER = "<!-- config keys -->"
DEFAULTS = Path(fpnas.config.__file__).with_name("defaults.py")

_ASSIGNMENT = re.compile(r"_C\.(?P<key>[A-Z_.0-9]+) = (?P<value>.+)")
_RULE = re.compile(r"\s*-{20,}$")
_MARKUP = re.compile(r"([\\`*_\[\]<>$|])")


class Keys(NamedTuple):
    """Keys that stand below one comment: ``[(name, default as written), ...]``."""

    comment: str
    keys: list[tuple[str, str]]


class Section(NamedTuple):
    """A section, such as ``DATA.AUGMENT`` ("" at the top), what is said of it, and its keys."""

    name: str
    comment: str
    entries: list[Keys]


def read_sections(text: str) -> list[Section]:
    """The sections in the text of defaults.py, in its order.

    A comment belongs to the assignments below it, up to a blank line or the next comment.
    """
    sections = [Section("", "", [])]
    comment: list[str] = []
    entry: Keys | None = None
    for line in text.splitlines():
        if line.startswith("#"):
            if entry is not None:
                comment, entry = [], None
            comment.append(_RULE.sub("", line.removeprefix("#").strip()))
            continue
        match = _ASSIGNMENT.fullmatch(line)
        if match is None:
            comment, entry = [], None
        elif match["value"] == "CN()":
            sections.append(Section(match["key"], " ".join(filter(None, comment)), []))
            comment, entry = [], None
        else:
            if entry is None:
                entry = Keys(" ".join(filter(None, comment)), [])
                # A key of the top, such as OUTPUT_DIR, is of the first section.
                name = match["key"].rpartition(".")[0]
                next(s for s in sections if s.name == name).entries.append(entry)
            entry.keys.append((match["key"], match["value"]))
    return sections


def markdown(text: str) -> str:
    """The list of all keys in the text of defaults.py."""
    lines: list[str] = []
    for section in read_sections(text):
        if section.name:
            lines += [f"## {section.name}", ""]
        if section.comment:
            lines += [_escaped(section.comment), ""]
        for entry in section.entries:
            keys = ", ".join(f"`{name}` = `{value}`" for name, value in entry.keys)
            lines += [f"- {keys}", "", f"  {_escaped(entry.comment)}", ""]
    return "\n".join(lines)


def _escaped(comment: str) -> str:
    """Plain text in Markdown."""
    return _MARKUP.sub(r"\\\1", comment)


def insert(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace the placeholder of a page that has one."""
    if PLACEHOLDER in source[0]:
        app.env.note_dependency(str(DEFAULTS))
        listed = markdown(DEFAULTS.read_text(encoding="utf-8"))
        source[0] = source[0].replace(PLACEHOLDER, listed)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", insert)
    return {"parallel_read_safe": True}
