"""How a run takes its folder: by one rename, so that a kill leaves the earlier run or the new one.

A new run replaces ``run.yaml`` (see :mod:`fpnas.engine.identity`) before anything that takes long.
From then on the folder is its own: what an earlier run left there is moved to a folder beside it,
now or at the next start, and no checkpoint without the new id is ever resumed. A resumed run is
compared with ``run.yaml`` first.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from fpnas.config import CfgNode
from fpnas.data.fingerprint import Fingerprint
from fpnas.engine.identity import (
    FILE,
    Moving,
    RunIdentity,
    config_changes,
    plain,
)
from fpnas.engine.run_lock import RunLock
from fpnas.errors import CheckpointError, ConfigError, ResumeError, UserError
from fpnas.utils import comm
from fpnas.utils.checkpoint import (
    Checkpointer,
    DamagedCheckpointError,
    RunTag,
    read_checkpoint,
)

logger = logging.getLogger(__name__)

# What runs write into OUTPUT_DIR beside checkpoints and the log, which goes on.
_FILES = (
    *("config.yaml", "metrics.json", "tensorboard", "report.html", "architecture.yaml"),
    *("result.yaml", "network.pth", "search_result.pth", "search_result.yaml"),
    *("target-*", "full", "finalists"),
)
_IMAGES = "images-*.jsonl.gz"
_CHECKPOINTS = re.compile(r"model_(\d{7,}|final|best)\.pth|last_checkpoint")


@dataclass(frozen=True)
class Run:
    """A run that has its folder; ``with run:`` lets others have it at the end.

    Attributes:
        identity: what it is from here on.
        data: its images; None in all but the main process.
        notes: what the log is to say, once there is one.
    """

    identity: RunIdentity
    data: Fingerprint | None
    notes: tuple[str, ...] = ()
    lock: RunLock | None = None  # in the main process

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if self.lock is not None:
            self.lock.release()

    @property
    def tag(self) -> RunTag:
        """For the checkpoints."""
        return RunTag(self.identity.id, self.identity.takes_unmarked)

    def settle(self, folder: Path) -> None:
        """Note what has changed, once a resumed run has its state: a failed one changes nothing."""
        if self.data is not None and RunIdentity.read(folder) != self.identity:
            _write(self.identity, self.data, folder)


def unwritable(cfg: CfgNode, reason: str | None) -> ConfigError:
    """The error that OUTPUT_DIR cannot be written to, for a ``reason``."""
    return ConfigError(
        f"OUTPUT_DIR '{Path(cfg.OUTPUT_DIR)}' cannot be written to ({reason}); choose another."
    )


def has_checkpoint(cfg: CfgNode, resume: bool) -> bool:
    """Whether ``resume`` would go on from a checkpoint in OUTPUT_DIR, rather than start.

    While an earlier run is on its way out all checkpoints there are its own.
    """
    folder = Path(cfg.OUTPUT_DIR)
    if not resume or not _checkpoints(folder):
        return False
    found = RunIdentity.read(folder)
    return found is None or found.moving is None


def begin_run(
    cfg: CfgNode,
    kind: str,
    fingerprint: Callable[[], Fingerprint],
    *,
    resume: bool = False,
    allow_changes: bool = False,
) -> Run:
    """Make OUTPUT_DIR the folder of this run, or find that it is. Collective.

    Call it when all that is quickly checked has been checked, and before what takes long.

    Args:
        cfg: the config that the run uses.
        kind: what it computes: "search", "training", ...
        fingerprint: of its images; called in the main process.
        resume: go on with the run that is there, if there is one.
        allow_changes: even if config or images are others by now.

    Raises ResumeError, in all processes, if the run that is there is another one or is under way,
    ConfigError if the folder cannot be written to or ``allow_changes`` comes without ``resume``.
    """
    if allow_changes and not resume:
        raise ConfigError("--allow-changes (allow_changes) goes with --resume (resume) only.")
    comm.synchronize()  # the others may still be reading weights there
    own: Run | None = None
    outcome: Run | UserError | None = None
    if comm.is_main_process():
        try:
            data = fingerprint()
            now = RunIdentity.of(cfg, kind, data)
            own = _begin(cfg, now, data, resume, allow_changes)
            outcome = replace(own, data=None, lock=None)
        except UserError as error:
            outcome = error
    outcome = comm.broadcast_object(outcome)
    if isinstance(outcome, UserError):
        raise outcome
    return own or outcome


def _begin(
    cfg: CfgNode, now: RunIdentity, data: Fingerprint, resume: bool, allow_changes: bool
) -> Run:
    folder = Path(cfg.OUTPUT_DIR)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as on_failure:
            lock = RunLock(folder)
            on_failure.callback(lock.release)
            run = _resume(now, data, folder, allow_changes) if resume else _start(now, data, folder)
            on_failure.pop_all()
        return replace(run, lock=lock)
    except OSError as error:
        raise unwritable(cfg, error.strerror) from None


def _start(new: RunIdentity, data: Fingerprint, folder: Path) -> Run:
    """A new run in place of whatever is there."""
    with contextlib.suppress(CheckpointError):  # what a damaged run.yaml says is lost
        found = RunIdentity.read(folder)
        if found is not None:
            _clear(found, folder)  # what it has not finished moving is not its own
    if not _files_of_run(folder, _FILES):
        return _take(new, data, folder)
    old_file = folder / FILE
    text = old_file.read_text(encoding="utf-8", errors="replace") if old_file.exists() else ""
    new = replace(new, moving=Moving(_free_name(folder), text))
    note = f"{folder} holds files of an earlier run; moved to {folder / new.moving.to}"
    return _take(new, data, folder, note)


def _take(new: RunIdentity, data: Fingerprint, folder: Path, *notes: str) -> Run:
    _write(new, data, folder)
    return Run(_clear(new, folder), data, notes)


def _write(identity: RunIdentity, data: Fingerprint, folder: Path) -> None:
    data.write(folder / identity.images_file)
    identity.write(folder)  # the one moment at which the folder changes hands


def _clear(identity: RunIdentity, folder: Path) -> RunIdentity:
    """Move out what is not of the run ``identity``, whose folder this is; may be repeated."""
    foreign = [file for file in folder.glob(_IMAGES) if file.name != identity.images_file]
    moving = identity.moving
    if moving is None:
        for file in foreign:  # of a run that was killed before it did anything
            file.unlink()
        return identity
    # Nothing of its own is among these: a run writes none before the earlier one is out.
    aside = folder / moving.to
    _move_into(aside, [*_files_of_run(folder, _FILES), *foreign])
    if moving.identity:
        (aside / FILE).write_text(moving.identity, encoding="utf-8")
    identity = replace(identity, moving=None)
    identity.write(folder)
    return identity


def _resume(now: RunIdentity, data: Fingerprint, folder: Path, allow_changes: bool) -> Run:
    """The run that is there, or a new one if there is none."""
    then = RunIdentity.read(folder)
    notes: list[str] = []
    if then is None:
        then = _without_identity(folder, now)
        if then is None:
            return _take(now, data, folder)
        notes.append(
            f"{folder} is of an earlier version, which noted no images: whether they are the same "
            "cannot be told"
        )
    if then.kind != now.kind:
        raise ResumeError(
            f"'{folder}' holds a {then.kind}, which a {now.kind} cannot go on with. Choose another "
            "OUTPUT_DIR, or start anew without --resume."
        )
    refused, free = config_changes(then.config, now.config)
    if then.data is not None:
        refused += data.differences(then.data, folder / then.images_file)
    if refused and not allow_changes:
        raise ResumeError(
            f"'{folder}' holds another run than this command asks for: {'; '.join(refused)}. "
            "Go on all the same with --allow-changes (allow_changes), or start anew without "
            "--resume."
        )
    if refused or free:
        notes.append("Resuming with changes:\n" + "\n".join([*refused, *free]))
    if then.code != now.code:
        notes.append(
            f"The run was begun with {_versions(then.code)}; this is {_versions(now.code)}"
        )
    if (folder / FILE).exists():
        _clear(then, folder)
    known = replace(now, id=then.id, code=then.code, takes_unmarked=then.takes_unmarked)
    return Run(known, data, tuple(notes))


def _without_identity(folder: Path, now: RunIdentity) -> RunIdentity | None:
    """Of a run with checkpoints and no run.yaml, what its checkpoints say; None if it has none.

    Of the kind it is taken at its word: the state of another does not fit.
    """
    candidates = _checkpoints(folder)
    for file in candidates:
        try:
            contents = read_checkpoint(file)
        except DamagedCheckpointError:
            continue
        config = plain(contents["config"]) if contents.get("config") else now.config
        known = replace(now, config=config, data=None)
        if contents.get("run_id"):
            return replace(known, id=contents["run_id"])
        return replace(known, takes_unmarked=True)
    return replace(now, data=None, takes_unmarked=True) if candidates else None


def _checkpoints(folder: Path) -> list[Path]:
    """Those to resume from, whosever they are."""
    return Checkpointer(nn.Identity(), folder).resumable_files() if folder.is_dir() else []


def _versions(code: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in code.items())


# Moving files of an earlier run ------------------------------------------------------------------


def _files_of_run(folder: Path, others: Sequence[str] = ()) -> list[Path]:
    """Checkpoints in ``folder``, and what has a name of the shell patterns ``others``."""
    if not folder.is_dir():
        return []
    return [
        file
        for file in folder.iterdir()
        if _CHECKPOINTS.fullmatch(file.name) or any(map(file.match, others))
    ]


def set_aside_checkpoints(folder: Path) -> None:
    """Move checkpoints in ``folder`` into a new folder ``earlier-1`` (or 2, ...) in it. Collective.

    For runs that did not begin with :func:`begin_run`, which leaves none of an earlier run.
    """
    comm.synchronize()  # the others may still be reading weights here
    found = _files_of_run(folder) if comm.is_main_process() else []
    if found:
        aside = folder / _free_name(folder)
        _move_into(aside, found)
        logger.warning("%s holds files of an earlier run; moved to %s", folder, aside)
    comm.synchronize()


def _free_name(folder: Path) -> str:
    """The first of ``earlier-1``, ``earlier-2``, ... that is not in ``folder``."""
    names = (f"earlier-{number}" for number in itertools.count(1))
    return next(name for name in names if not (folder / name).exists())


def _move_into(folder: Path, files: Sequence[Path]) -> None:
    """Move ``files`` into ``folder``, which is made if need be. Goes on where a kill stopped it."""
    folder.mkdir(exist_ok=True)
    for file in files:
        file.rename(folder / file.name)
