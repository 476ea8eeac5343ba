"""The folder of downloaded and converted files."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from iopath.common.file_io import file_lock

from fpnas.errors import UserError


def cache_folder() -> Path:
    """``$FPNAS_CACHE``, by default ``~/.cache/fpnas``. It may not exist yet."""
    return Path(os.environ.get("FPNAS_CACHE") or "~/.cache/fpnas").expanduser()


@contextlib.contextmanager
def changing(path: Path) -> Iterator[None]:
    """Hold ``path``, a file of the cache, for one process; the others wait. Makes its folder.

    Raises UserError if the cache cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(str(path)):
            yield
    except OSError as error:
        raise UserError(
            f"Cannot write '{path}' in the cache folder {cache_folder()}: {error}. Set "
            "the environment variable FPNAS_CACHE to a folder that is writable and has room."
        ) from error


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
