"""What Sphinx is told about the pages: the list of config keys, documents from elsewhere."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from documents import DOCS, ROOT, headings, text

import config_keys
import repository_pages
from fpnas import get_cfg
from fpnas.config.checks import leaves

DEFAULTS = text(config_keys.DEFAULTS)


def test_every_key_is_listed_once_with_its_default_and_some_words() -> None:
    entries = [e for section in config_keys.read_sections(DEFAULTS) for e in section.entries]
    listed = [name for entry in entries for name, _ in entry.keys]
    defaults = dict(leaves(get_cfg()))
    assert sorted(listed) == sorted(defaults)
    for entry in entries:
        assert entry.comment, entry.keys
        for name, written in entry.keys:
            assert eval(written, {}) == defaults[name]


def test_comments_belong_to_the_keys_below_them() -> None:
    code = """\
# Of all.
_C.TOP = 1

# ------------------------------
# A section.
_C.PART = CN()
# Both of
# them.
_C.PART.ONE = 1
_C.PART.TWO = "a"
# Its * own.
_C.PART.THREE = ()
_C.set_new_allowed(False)
"""
    assert config_keys.markdown(code).splitlines() == [
        *("- `TOP` = `1`", "", "  Of all.", ""),
        *("## PART", "", "A section.", ""),
        *('- `PART.ONE` = `1`, `PART.TWO` = `"a"`', "", "  Both of them.", ""),
        *("- `PART.THREE` = `()`", "", r"  Its \* own."),
    ]


def test_the_page_of_keys_has_the_place_for_them() -> None:
    assert config_keys.PLACEHOLDER in text(DOCS / "config.md")
    assert "## SEARCH" in config_keys.markdown(DEFAULTS)


def test_pages_for_files_exist() -> None:
    pages = repository_pages.pages_by_file(DOCS)
    assert len(pages) >= 6
    for file, page in pages.items():
        assert file.is_file(), page


def test_links_lead_to_pages_where_there_are_some() -> None:
    zoo = ROOT / "model_zoo" / "MODEL_ZOO.md"
    page = DOCS / "more" / "zoo-table.md"
    lines = "[a](../CONTRIBUTING.md#where-to-add-what) ![b](plots/p.svg) [c](#d) `[e](f.md)`"
    pages = repository_pages.pages_by_file(DOCS)
    expected = "[a](contributing.md#where-to-add-what) ![b](../../model_zoo/plots/p.svg) "
    expected += "[c](#d) `[e](f.md)`"
    assert repository_pages.relinked(lines, zoo, page, pages) == expected
    assert "where-to-add-what" in headings(ROOT / "CONTRIBUTING.md")


def test_pictures_in_html_become_pictures_of_the_page() -> None:
    html = '<img src="s.png" width="3" alt="A page">'
    at = ROOT / "projects" / "x" / "README.md"
    assert (
        repository_pages.relinked(html, at, DOCS / "x.md", {}) == "![A page](../projects/x/s.png)"
    )


@pytest.mark.slow
@pytest.mark.skipif(
    any(find_spec(name) is None for name in ("furo", "myst_parser", "sphinx")),
    reason="needs the extra 'docs'",
)
def test_pages_build_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--builder", "html"]
    subprocess.run([*command, str(DOCS), str(tmp_path / "html")], check=True, cwd=ROOT)
    assert "ArchitectureSearcher" in text(tmp_path / "html" / "api.html")
    assert "SEARCH.TARGET" in text(tmp_path / "html" / "config.html")
    assert "efficientnet_lite0" in text(tmp_path / "html" / "more" / "zoo-table.html")
