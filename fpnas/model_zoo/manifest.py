"""Finds the records of the zoo, in a checkout and in an installed package."""

from __future__ import annotations

from pathlib import Path

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
