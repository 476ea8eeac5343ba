"""Exported files that may run code: those that this fpnas wrote are known by their hash.

A ``.pt2`` file is a program in JSON, but PyTorch reads some of its members with pickle, which runs
whatever code they name: ``data/sample_inputs/*.pt``, ``data/weights/*.pt`` and
``data/constants/*.pt`` where ``weights_only=True`` fails; weights and constants whose configs say
"use_pickle"; ``opaque_obj_*`` and ``custom_obj_*`` among the constants; in the older layout
``serialized_*.pt``. Libraries under ``data/aotinductor`` are machine code. TorchScript is no
Python, but its programs may write files.

So before such a file is loaded its SHA-256 is looked up in the cache folder, where each export
leaves an empty file of that name: whoever sends a file cannot write there. Metadata is read as
plain members of the archive, and that loads nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from pathlib import Path

from fpnas.errors import UserError
from fpnas.utils.cache import cache_folder

logger = logging.getLogger(__name__)

METADATA_FILE = "metadata.json"

_MAX_METADATA = 1 << 24  # bytes; of all networks so far it is below 1 << 16
_written_here: set[str] = set()  # for a cache folder that cannot be written to


def write_known(data: bytes, path: Path) -> None:
    """Write ``data`` to ``path`` and remember its hash."""
    found = hashlib.sha256(data).hexdigest()
    _written_here.add(found)
    marker = _marker(found)
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError as error:
        logger.warning(
            "Cannot write '%s' (%s): 'fpnas benchmark' will ask for --trust", marker, error.strerror
        )
    path.write_bytes(data)


def read_known(path: Path, trust: bool = False) -> bytes:
    """The contents of ``path``: load these, not the file again, which may be another by then.

    Raises UserError if no export on this machine wrote them, unless ``trust``.
    """
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if trust or found in _written_here or _marker(found).is_file():
        return data
    raise UserError(
        f"'{path}' may run code when it is loaded, and nothing says that fpnas wrote it on this "
        f"machine: its SHA-256 {found[:12]}... is not in '{_marker(found).parent}'. Export it "
        "here, or add --trust (trust=True) if you trust whoever made it."
    )


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata in an archive of PyTorch; empty if it has none. Loads nothing of the rest."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith(f"/extra/{METADATA_FILE}"):
                if member.file_size > _MAX_METADATA:
                    raise UserError(f"'{path}' has metadata of {member.file_size:,} bytes.")
                return json.loads(archive.read(member))
    return {}


def _marker(sha256: str) -> Path:
    return cache_folder() / "exported" / sha256
