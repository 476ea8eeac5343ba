"""README and the pages of docs/, and what stands in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)
#: What a newcomer reads.
GUIDE = [ROOT / "README.md", *PAGES]
#: Everything whose links must lead somewhere.
DOCUMENTS = [
    *(*GUIDE, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", ROOT / "model_zoo/MODEL_ZOO.md"),
    *sorted((ROOT / "projects").glob("*/README.md")),
]

_FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_PYTHON = re.compile(
    r"(?:^<!-- (?P<kind>setup|not run): (?P<what>[^\n]+) -->\n)?^```python\n(?P<code>.*?)^```",
    re.DOTALL | re.MULTILINE,
)


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def prose(path: Path) -> str:
    """Without what is fenced off as code."""
    return _FENCE.sub("", text(path))


@dataclass(frozen=True)
class Snippet:
    """Python in a document. ``<!-- setup: NAME -->`` or ``<!-- not run: WHY -->`` may lead it."""

    page: Path
    number: int
    code: str
    setup: str = ""
    reason: str = ""  # why it is not run

    def __str__(self) -> str:
        return f"{self.page.name}-{self.number}"

    def run(self) -> None:
        exec(compile(self.code, str(self), "exec"), {"__name__": "__main__"})


def snippets() -> list[Snippet]:
    return [
        Snippet(
            page,
            number,
            match["code"],
            setup=match["what"] if match["kind"] == "setup" else "",
            reason=match["what"] if match["kind"] == "not run" else "",
        )
        for page in GUIDE
        for number, match in enumerate(_PYTHON.finditer(text(page)), start=1)
    ]


def links(path: Path) -> list[tuple[str, str]]:
    """``(file, heading)`` of every link and picture that is no address; either may be empty."""
    found = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", prose(path))
    return [(file, heading) for file, heading in found if not file.startswith("http")]


def headings(path: Path) -> set[str]:
    """The names by which GitHub and MyST link to the headings of a document."""
    titles = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
