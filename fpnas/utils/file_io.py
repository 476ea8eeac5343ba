"""Files: paths with a scheme, places to write to, and writing all of a file or nothing."""

from __future__ import annotations

import contextlib
import importlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from iopath.common.file_io import PathManager

from fpnas.errors import UserError
from fpnas.utils import scheme_providers

# Ends the names of files that are being written.
TEMPORARY_SUFFIX = ".fpnas-tmp"

#: fpnas' own path manager; register handlers of your own schemes here.
path_manager = PathManager()


def local_path(path: str | os.PathLike[str], *, force: bool = False) -> str:
    """A file on this machine with the contents of ``path``; fetched or made first if need be.

    A path without a scheme is returned as it is. ``force`` fetches anew. What provides a scheme is
    imported first; whoever reads no path of the zoo never loads it.
    """
    path = os.fspath(path)
    for scheme, module in scheme_providers.items():
        if path.startswith(scheme):
            importlib.import_module(module)
    return path_manager.get_local_path(path, force=force)


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


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a binary file for writing that appears at ``path`` complete, or not at all.

    A process killed meanwhile leaves the old file, and perhaps a temporary one beside it. An
    exception inside the block leaves the old file only.
    """
    path = Path(path)
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable. Only POSIX systems can open a folder."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
