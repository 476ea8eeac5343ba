"""Holds every record of the zoo against its architecture and its file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from fpnas.errors import CheckpointError, UserError
from fpnas.model_zoo.manifest import get_record, record_names, zoo_folder
from fpnas.model_zoo.record import ZooRecord
from fpnas.model_zoo.weights import (
    available_offline,
    check_costs,
    get_checkpoint_file,
    mismatch,
    source_file,
    source_on_disk,
)
from fpnas.modeling import SearchedNet
from fpnas.utils.checkpoint import load_weights

OK, FAILED, NOT_HERE = "ok", "failed", "not here"


class Check(NamedTuple):
    """Outcome of one check of one record: ``status`` is OK, FAILED or NOT_HERE."""

    name: str
    what: str
    status: str
    message: str = ""


def verify(names: Sequence[str] = (), download: bool = False) -> list[Check]:
    """Check the records ``names``, by default all, and that no in-tree file lacks its record.

    Of each record: FLOPs and params are counted anew ("costs"); size and SHA-256 of its file are
    compared ("file"); the weights are loaded into the architecture ("weights").

    Args:
        names: of records. Raises UserError on one that is none.
        download: also fetch files that are not on this machine; otherwise their checks are
            NOT_HERE.
    """
    checks: list[Check] = []
    for name in names or record_names():
        checks += _verify_one(name, download)
    return checks if names else checks + _orphans()


def _verify_one(name: str, download: bool) -> list[Check]:
    try:
        record = get_record(name)
        if not record.class_names:
            return [Check(name, "record", FAILED, "It has no classes.")]
    except UserError as error:
        if name not in record_names():
            raise
        return [Check(name, "record", FAILED, str(error))]
    checks = [_run(name, "costs", lambda: check_costs(record))]
    if not download and not available_offline(record):
        message = f"{record.file} is not on this machine; --download fetches it."
        return [*checks, Check(name, "file", NOT_HERE, message)]
    checks.append(_run(name, "file", lambda: _check_file(record, download)))
    if all(check.status == OK for check in checks):
        net = SearchedNet(record.build_arch())
        checks.append(_run(name, "weights", lambda: load_weights(net, get_checkpoint_file(name))))
    return checks


def _run(name: str, what: str, check: Callable[[], object]) -> Check:
    try:
        check()
    except UserError as error:
        return Check(name, what, FAILED, str(error))
    return Check(name, what, OK)


def _check_file(record: ZooRecord, download: bool) -> None:
    if download:
        source_file(record)
        return
    problem = mismatch(record, source_on_disk(record))
    if problem:
        raise CheckpointError(problem)


def _orphans() -> list[Check]:
    """Weights in the zoo folder that no record names."""
    named = set()
    for name in record_names():
        try:
            named.add(get_record(name).file)
        except UserError:
            continue  # reported with its record
    found = sorted(zoo_folder().rglob("*.safetensors"))
    strays = [path for path in found if path.relative_to(zoo_folder()).as_posix() not in named]
    return [Check(path.name, "file", FAILED, f"No record names {path}.") for path in strays]
