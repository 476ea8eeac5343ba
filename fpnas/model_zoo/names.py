"""The names that the zoo knows: registered architectures and published checkpoints."""

from __future__ import annotations

import fnmatch

from fpnas.archs import ARCH_REGISTRY
from fpnas.errors import UserError, check_known
from fpnas.model_zoo.manifest import find_record, record_names
from fpnas.model_zoo.record import ZooRecord


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
