"""Pieces of a long benchmark: each leaves a JSON file and is worked on by one process at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout  # torch needs filelock, too

from fpnas.utils.file_io import atomic_write


def stored(path: Path, compute: Callable[[], Any]) -> Any:
    """What the JSON file ``path`` holds; computed and written if it does not exist yet."""
    if not path.exists():
        write_json(path, compute())
    return json.loads(path.read_text())


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` so that ``path`` is complete or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(json.dumps(value, indent=2).encode())


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Whether ``folder`` is this process's own inside the block; False: another works in it.

    The system frees the claim of a process that ends, however it ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
