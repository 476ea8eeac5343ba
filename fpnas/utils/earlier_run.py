"""Moving what an earlier run has left in a folder out of the way of a new one."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

_CHECKPOINTS = re.compile(r"model_(\d{7,}|final|best)\.pth|last_checkpoint")


def files_of_run(folder: Path, others: Sequence[str] = ()) -> list[Path]:
    """Checkpoints in ``folder``, and what has a name of the shell patterns ``others``."""
    if not folder.is_dir():
        return []
    return [
        file
        for file in folder.iterdir()
        if _CHECKPOINTS.fullmatch(file.name) or any(map(file.match, others))
    ]


def free_name(folder: Path) -> str:
    """The first of ``earlier-1``, ``earlier-2``, ... that is not in ``folder``."""
    names = (f"earlier-{number}" for number in itertools.count(1))
    return next(name for name in names if not (folder / name).exists())


def move_into(folder: Path, files: Iterable[Path]) -> None:
    """Move ``files`` into ``folder``, which is made if need be. Goes on where a kill stopped it."""
    folder.mkdir(exist_ok=True)
    for file in files:
        file.rename(folder / file.name)
