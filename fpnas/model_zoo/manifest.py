"""What the zoo has by name: registered architectures and the records of published weights."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import NamedTuple

from fpnas.archs import ARCH_REGISTRY, Architecture, get_arch
from fpnas.errors import UserError, check_known
from fpnas.model_zoo.record import ZooRecord

_PACKAGE = Path(__file__).resolve().parent


def zoo_folder() -> Path:
    """The folder of records and in-tree weights.

    ``fpnas/model_zoo/entries`` if installed, else the checkout's ``model_zoo``.
    """
    installed = _PACKAGE / "entries"
    return installed if installed.is_dir() else _PACKAGE.parents[1] / "model_zoo"


def record_names() -> list[str]:
    """Names of all records, sorted."""
    return sorted(path.stem for path in zoo_folder().glob("*.yaml"))


def all_records() -> list[ZooRecord]:
    """All records, sorted by name. Raises ConfigError on one that cannot be used."""
    return [ZooRecord.load(zoo_folder() / f"{name}.yaml") for name in record_names()]


def find_record(name: str) -> ZooRecord | None:
    """The record called ``name``, or None. The name is compared, never used as a path."""
    return ZooRecord.load(zoo_folder() / f"{name}.yaml") if name in record_names() else None


def list_models(pattern: str = "*", pretrained: bool = False) -> list[str]:
    """Sorted names that match a shell pattern (``"fp_nas_*"``).

    Args:
        pattern: ``*`` and ``?`` stand for anything and for one character.
        pretrained: only names with published weights.
    """
    names = set(record_names())
    if not pretrained:
        names |= set(ARCH_REGISTRY.names())
    return sorted(fnmatch.filter(names, pattern))


def check_model(name: str) -> None:
    """Raise UnknownNameError, with the nearest name, unless :func:`list_models` has ``name``."""
    check_known(name, list_models(), f"No model '{name}' in the zoo")


def get_record(name: str) -> ZooRecord:
    """The record called ``name``.

    Raises UnknownNameError on a name that nothing has, UserError on an architecture without
    published weights.
    """
    record = find_record(name)
    if record is None:
        check_model(name)
        published = ", ".join(record_names()) or "none yet"
        raise UserError(
            f"No checkpoint of '{name}' is published; model_zoo.get('{name}') gives the network "
            f"with fresh weights. Published: {published}."
        )
    return record


class ModelInfo(NamedTuple):
    """What the zoo knows of a name.

    Attributes:
        name: in the zoo.
        arch: its architecture.
        record: of its weights; None if none are published.
    """

    name: str
    arch: Architecture
    record: ZooRecord | None


def info(name: str) -> ModelInfo:
    """Architecture and record of ``name``. Raises UnknownNameError on an unknown name."""
    check_model(name)
    record = find_record(name)
    return ModelInfo(name, get_arch(name) if record is None else record.build_arch(), record)
