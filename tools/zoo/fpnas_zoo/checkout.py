"""The checkout in which the zoo is kept: the tables beside its records, and its commit."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TypeVar

from fpnas.errors import UserError
from fpnas.utils.records import load_yaml, parse

T = TypeVar("T")

CHECKOUT = Path(__file__).resolve().parents[3]
#: comparison.yaml, paper.yaml and searched.yaml.
TABLES = CHECKOUT / "model_zoo" / "tables"


def read_table(cls: type[T], path: Path) -> T:
    """The contents of a YAML file as ``cls``. Raises ConfigError, which names the file."""
    return parse(cls, load_yaml(path.read_text(encoding="utf-8"), path.name), path.name)


def head_commit() -> str:
    """The short hash of HEAD. Raises UserError where this is no git checkout."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        raise UserError("fpnas does not run from a git checkout: give --commit.") from None
