"""Documents that stand elsewhere in the repository, as pages.

A page with ``<!-- page: FILE -->`` becomes the text of that file when the pages are built, and
links to the file lead to the page. Where nothing is built, as on a site that shows the repository,
they lead to the file itself.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_MARK = re.compile(r"^<!-- page: (?P<file>\S+) -->$", re.MULTILINE)
_IMAGE = re.compile(r'<img src="(?P<file>[^"]+)"[^>]*alt="(?P<alt>[^"]*)"[^>]*>')
# Code comes first: what is in it is no link.
_LINK = re.compile(
    r"(?P<code>^```.*?^```|`[^`\n]+`)|\]\((?P<file>[^)#\s:]+)(?P<heading>#[^)\s]*)?\)",
    re.DOTALL | re.MULTILINE,
)


def marked_file(page: Path) -> Path | None:
    """The file that ``page`` stands for; None: it is a page of its own."""
    mark = _MARK.search(page.read_text(encoding="utf-8"))
    return None if mark is None else (page.parent / mark["file"]).resolve()


def pages_by_file(folder: Path) -> dict[Path, Path]:
    """The pages below ``folder`` that stand for files, by these."""
    found = {page: marked_file(page) for page in sorted(folder.rglob("*.md"))}
    return {file: page for page, file in found.items() if file is not None}


def relinked(text: str, origin: Path, page: Path, pages: dict[Path, Path]) -> str:
    """``text`` of the file ``origin`` with links that lead from ``page`` to the same places.

    Links to a file that has a page in ``pages`` lead there.
    """

    def link(match: re.Match[str]) -> str:
        if match["code"]:
            return match["code"]
        target = Path(os.path.normpath(origin.parent / match["file"]))
        heading = match["heading"] or ""
        target = pages.get(target, target)
        return f"]({os.path.relpath(target, page.parent)}{heading})"

    return _LINK.sub(link, _IMAGE.sub(r"![\g<alt>](\g<file>)", text))


def insert(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the file in the place of a page that stands for it, and links to such files right."""
    page = Path(app.env.doc2path(docname)).resolve()
    pages = pages_by_file(Path(app.srcdir).resolve())
    origin = marked_file(page) or page
    if origin != page:
        app.env.note_dependency(str(origin))
        source[0] = origin.read_text(encoding="utf-8")
    source[0] = relinked(source[0], origin, page, pages)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", insert)
    return {"parallel_read_safe": True}
