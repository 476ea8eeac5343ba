"""A zoo of its own for each test: empty folder, empty cache, no network."""

from __future__ import annotations

from pathlib import Path

import pytest

from fpnas.model_zoo import manifest


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of records, empty; the cache is ``tmp_path/cache``, pip finds nothing."""
    folder = tmp_path / "package" / "entries"
    folder.mkdir(parents=True)
    monkeypatch.setattr(manifest, "_PACKAGE", folder.parent)
    monkeypatch.setenv("FPNAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    (tmp_path / "wheels").mkdir()
    return folder
