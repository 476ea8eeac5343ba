"""The commit of a checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fpnas.errors import UserError
from fpnas_zoo import checkout


def test_head_is_a_short_hash_and_its_absence_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(checkout, "__file__", str(tmp_path / "x.py"))
    with pytest.raises(UserError, match="give --commit"):
        checkout.head_commit()
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    whole = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    assert len(checkout.head_commit()) >= 7
    assert whole.stdout.startswith(checkout.head_commit())
