"""From a record, or ``zoo://name``, to a file of verified weights in our own layout.

The SHA-256 of a record is that of its source file. Where the source has a foreign layout, it is
converted once; the copy in the cache has a note beside it with its own hash and with what it was
made from. A copy that does not agree with its note is made anew from the verified source.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save

import fpnas
from fpnas.errors import CheckpointError
from fpnas.model_zoo.importing import import_file
from fpnas.model_zoo.manifest import get_record, zoo_folder
from fpnas.model_zoo.pypi import ReadOnlyHandler, cached_file, installed_file, split
from fpnas.model_zoo.record import OWN_LAYOUT, ZooRecord
from fpnas.utils.file_io import atomic_write, cache_folder, changing, local_path, sha256_of

PREFIX = "zoo://"


def get_checkpoint_file(name: str) -> Path:
    """The weights of ``name`` as a file in our layout: downloaded, verified, converted, cached.

    Raises UnknownNameError on an unknown name, UserError where there are no weights or they cannot
    be fetched, CheckpointError on weights or a record that are not what they claim.
    """
    record = get_record(name)
    check_costs(record)
    if record.layout == OWN_LAYOUT:
        return source_file(record)
    target = cache_folder() / "converted" / f"{record.name}-{record.sha256[:8]}.safetensors"
    note_file = target.with_suffix(".json")
    with changing(target):
        if not target.is_file() or _read_note(note_file) != _note(record, target):
            source = source_file(record)
            weights = import_file(record.layout, source, record.build_arch())
            with atomic_write(target) as file:
                file.write(save(weights))
            with atomic_write(note_file) as file:
                file.write(json.dumps(_note(record, target), indent=1).encode())
    return target


def check_costs(record: ZooRecord) -> None:
    """Raise CheckpointError if the record states other FLOPs or params than its architecture."""
    arch = record.build_arch()
    counted = {"params": arch.params, "flops": arch.flops(record.input_size)}
    for key, value in counted.items():
        stated = getattr(record, key)
        if stated != value:
            raise CheckpointError(
                f"The record of '{record.name}' states {key} {stated:,}, but its architecture "
                f"'{record.architecture}' has {value:,} at {record.input_size} px."
            )


def source_file(record: ZooRecord) -> Path:
    """The record's own file, its size and hash verified.

    A damaged download is downloaded once more. Raises UserError if it cannot be had,
    CheckpointError if it is not the file of the record.
    """
    if not record.is_packaged:
        path = zoo_folder() / record.file
        problem = mismatch(record, path)
        if problem:
            raise CheckpointError(f"{problem} Install fpnas anew.")
        return path
    path = Path(local_path(record.file))
    if mismatch(record, path) and path == cached_file(record.file):
        path = Path(local_path(record.file, force=True))
    problem = mismatch(record, path)
    if problem:
        if path == cached_file(record.file):
            path.unlink()
            problem += " It was deleted, so that the next call fetches it again."
        raise CheckpointError(problem)
    return path


def mismatch(record: ZooRecord, path: Path) -> str:
    """What tells ``path`` from the file of the record, in words; empty if nothing does."""
    if not path.is_file():
        return f"The weights of '{record.name}' are missing: there is no {path}."
    size = path.stat().st_size
    if size != record.size_bytes:
        return (
            f"The weights of '{record.name}' are damaged: {path} has {size:,} bytes instead of "
            f"{record.size_bytes:,}."
        )
    found = sha256_of(path)
    if found != record.sha256:
        return (
            f"The weights of '{record.name}' are damaged or others: {path} has the SHA-256 "
            f"{found}, the record says {record.sha256}."
        )
    return ""


def _note(record: ZooRecord, target: Path) -> dict[str, Any]:
    """What the note beside a good copy says."""
    return {
        "source_sha256": record.sha256,
        "fpnas": fpnas.__version__,  # another version may name weights otherwise
        "sha256": sha256_of(target),
    }


def _read_note(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def source_on_disk(record: ZooRecord) -> Path:
    """Where the source file is, or would be after a download. Nothing is fetched."""
    if not record.is_packaged:
        return zoo_folder() / record.file
    return installed_file(*split(record.file)) or cached_file(record.file)


def available_offline(record: ZooRecord) -> bool:
    """Whether the source file is on this machine, good or not; an in-tree one has to be."""
    return not record.is_packaged or source_on_disk(record).is_file()


class ZooHandler(ReadOnlyHandler):
    """Resolves ``zoo://name`` to the file of :func:`get_checkpoint_file`."""

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        """``force`` changes nothing: every call verifies the file, and mends what it can."""
        self._check_kwargs(kwargs)
        return str(get_checkpoint_file(path.removeprefix(PREFIX)))


def published_record(weights: str) -> ZooRecord | None:
    """The record behind the path of a checkpoint; None unless that is ``zoo://name``."""
    return get_record(weights.removeprefix(PREFIX)) if weights.startswith(PREFIX) else None
