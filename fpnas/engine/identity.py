"""Which run a folder holds: ``run.yaml``, and what tells one run from another."""

from __future__ import annotations

import functools
import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
import yaml

import fpnas
from fpnas.config import CfgNode, get_cfg
from fpnas.config.checks import leaves
from fpnas.data.fingerprint import Fingerprint
from fpnas.errors import CheckpointError
from fpnas.utils.file_io import atomic_write

FILE = "run.yaml"

# Keys that say where things are and how often something is written, not what is computed: a run may
# go on with others. DATA.ROOT: whether the images are the same, their fingerprint tells. DATA.CACHE
# and CACHE_LIMIT are not among them: images in memory are augmented with other random numbers.
# TEST.PERIOD is not, either: it decides which weights model_best.pth can hold.
FREE_KEYS = (
    *("OUTPUT_DIR", "DATA.ROOT", "DATA.NUM_WORKERS", "TEST.BATCH_SIZE"),
    *("LOG.*", "CHECKPOINT.*", "EXPORT.*"),
)
# libyaml's, where PyYAML has it: ten times faster, and as safe.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_HEADER = "# Which run this folder holds; fpnas compares it before a run is resumed.\n"


@dataclass(frozen=True)
class Moving:
    """An earlier run whose files are being moved: ``to`` a folder, with ``identity``, its run.yaml.

    Stands in the new run's identity until all are moved, for the next start to go on with.
    """

    to: str
    identity: str


@dataclass(frozen=True)
class RunIdentity:
    """What a run is.

    Attributes:
        id: stands in each of its checkpoints, too.
        kind: "search", "training", ...
        code: versions of what computes.
        config: the whole config, as nested dicts.
        data: the summary of a :class:`fpnas.data.Fingerprint`; None: of an earlier version, which
            noted none.
        takes_unmarked: checkpoints without an id are this run's: it was begun by such a version.
        moving: the earlier run that is on its way out of the folder.
    """

    id: str
    kind: str
    code: Mapping[str, str]
    config: Mapping[str, Any]
    data: Mapping[str, Any] | None
    takes_unmarked: bool = False
    moving: Moving | None = None

    @classmethod
    def of(cls, cfg: CfgNode, kind: str, data: Fingerprint) -> RunIdentity:
        """A new run's."""
        return cls(uuid.uuid4().hex, kind, code_version(), plain(cfg.dump()), data.summary())

    @classmethod
    def read(cls, folder: Path) -> RunIdentity | None:
        """Of the run in ``folder``; None without run.yaml, CheckpointError if that is damaged."""
        file = folder / FILE
        try:
            values = _parse(file.read_text(encoding="utf-8"))
            moving = values.pop("moving")
            return cls(**values, moving=Moving(**moving) if moving else None)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"'{file}' is damaged ({type(error).__name__}), so that nothing tells which run "
                "this folder holds. Start anew without --resume."
            ) from None

    def write(self, folder: Path) -> None:
        """Make ``folder`` this run's, at once."""
        with atomic_write(folder / FILE) as file:
            file.write(_HEADER.encode())
            file.write(yaml.dump(asdict(self), Dumper=_DUMPER, sort_keys=False).encode())

    @property
    def images_file(self) -> str:
        """Name of the file with a line for each image. Of the id: another run's is never taken."""
        return f"images-{self.id}.jsonl.gz"


def plain(config: str) -> dict[str, Any]:
    """Config text as nested dicts of plain values."""
    return _parse(config) or {}


def _parse(text: str) -> Any:
    return yaml.load(text, Loader=_LOADER)


def config_changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Keys that differ, with both values: those that make it another run, and the free ones.

    A key that is newer than ``then`` had its default. One that is gone does nothing any more.
    """
    before = dict(leaves(plain(get_cfg().dump()))) | dict(leaves(then))
    others, free = [], []
    for key, value in leaves(now):
        if before.get(key) != value:
            is_free = any(fnmatchcase(key, pattern) for pattern in FREE_KEYS)
            change = f"{key}: {before.get(key)!r} then, {value!r} now"
            (free if is_free else others).append(change)
    return others, free


@functools.cache
def code_version() -> dict[str, str]:
    """Versions of fpnas, with a hash of its own code, and of PyTorch."""
    folder = Path(fpnas.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(file.relative_to(folder).as_posix().encode())
        digest.update(file.read_bytes())
    return {
        "fpnas": f"{fpnas.__version__} {digest.hexdigest()[:12]}",
        "torch": str(torch.__version__),
    }
