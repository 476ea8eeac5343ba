"""Checks that every page of a report must pass."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_VOID = {"meta", "link", "br", "hr", "img", "input"}


class _Checker(HTMLParser):
    """Collects the text and what is wrong: unbalanced tags, scripts, repeated ids, references."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.used: set[str] = set()
        self.faults: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "iframe", "object"}:
            self.faults.append(f"<{tag}>")
        for name, value in attrs:
            value = value or ""
            if name == "id":
                self.ids.append(value)
            if name in {"href", "xlink:href", "src"}:
                if value.startswith("#"):
                    self.used.add(value[1:])
                else:
                    self.faults.append(f"{name}={value}")
            self.used.update(re.findall(r"url\(#([^)]+)\)", value))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def check_page(page: str) -> str:
    """Assert that the page is well-formed and needs nothing from outside; return its text."""
    checker = _Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert checker.faults == []
    assert len(checker.ids) == len(set(checker.ids))
    assert checker.used <= set(checker.ids)
    # Names of XML name spaces are no references.
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert not re.search(r"https?://|@import|//cdn", without_namespaces)
    assert len(page.encode()) < 2_000_000
    return " ".join("".join(checker.text).split())
