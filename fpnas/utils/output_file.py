"""The place of a file that is written at the end of long work."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fpnas.errors import UserError


def output_file(path: str | Path) -> Path:
    """``path``, whose folder is made if need be.

    Raises UserError if ``path`` is a folder, or if its own folder cannot be written to.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"The output '{path}' is a folder; give the name of a file.")
    try:
        make_writable(path.parent)
    except OSError as error:
        raise UserError(f"Cannot write '{path}': {error.strerror}.") from None
    return path


def make_writable(folder: Path) -> None:
    """Make ``folder`` if need be. Raises OSError if it cannot be written to."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
