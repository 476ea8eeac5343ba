"""Which commit of fpnas this is, when it runs from a checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path

from fpnas.errors import UserError


def head_commit() -> str:
    """The short hash of HEAD. Raises UserError where fpnas is no git checkout."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        raise UserError("fpnas does not run from a git checkout: give --commit.") from None
