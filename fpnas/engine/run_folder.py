"""How a run takes its folder: by one rename, so that a kill leaves the earlier run or the new one.

A new run replaces ``run.yaml`` (see :mod:`fpnas.engine.identity`) before anything that takes long.
From then on the folder is its own: what an earlier run left there is moved to a folder beside it,
now or at the next start, and no checkpoint without the new id is ever resumed. A resumed run is
compared with ``run.yaml`` first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from fpnas.config import CfgNode
from fpnas.data.fingerprint import Fingerprint
from fpnas.engine.identity import (
    FILE,
    Moving,
    RunIdentity,
    code_version,
    config_changes,
    is_free,
    plain,
)
from fpnas.errors import CheckpointError, ConfigError, ResumeError, UserError
from fpnas.utils import comm
from fpnas.utils.checkpoint import (
    Checkpointer,
    DamagedCheckpointError,
    RunTag,
    read_checkpoint,
)
from fpnas.utils.earlier_run import files_of_run, free_name, move_into

logger = logging.getLogger(__name__)

# What runs write into OUTPUT_DIR beside checkpoints and the log, which goes on.
_FILES = (
    *("config.yaml", "metrics.json", "tensorboard", "report.html", "architecture.yaml"),
    *("result.yaml", "network.pth", "search_result.pth", "search_result.yaml", "target-*"),
)
_IMAGES = "images-*.jsonl.gz"


@dataclass(frozen=True)
class Run:
    """A run that has its folder.

    Attributes:
        identity: what it is from here on.
        data: its images; None in all but the main process.
        notes: what the log is to say, once there is one.
    """

    identity: RunIdentity
    data: Fingerprint | None
    notes: tuple[str, ...] = ()

    @property
    def tag(self) -> RunTag:
        """For the checkpoints."""
        return self.identity.tag

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

    Raises ResumeError, in all processes, if the run that is there is another one, ConfigError if
    the folder cannot be written to or ``allow_changes`` comes without ``resume``.
    """
    if allow_changes and not resume:
        raise ConfigError("--allow-changes (allow_changes) goes with --resume (resume) only.")
    comm.synchronize()  # the others may still be reading weights there
    outcome: Run | UserError | None = None
    if comm.is_main_process():
        try:
            outcome = _begin(cfg, kind, fingerprint(), resume, allow_changes)
        except UserError as error:
            outcome = error
    own = outcome
    outcome = comm.broadcast_object(replace(own, data=None) if isinstance(own, Run) else own)
    if isinstance(outcome, UserError):
        raise outcome
    return own or outcome


def _begin(cfg: CfgNode, kind: str, data: Fingerprint, resume: bool, allow_changes: bool) -> Run:
    try:
        return _resume(cfg, kind, data, allow_changes) if resume else _start(cfg, kind, data)
    except OSError as error:
        raise unwritable(cfg, error.strerror) from None


def _start(cfg: CfgNode, kind: str, data: Fingerprint) -> Run:
    """A new run in place of whatever is there."""
    folder = Path(cfg.OUTPUT_DIR)
    try:
        found = RunIdentity.read(folder)
    except CheckpointError:
        found = None
    if found is not None:
        _clear(found, folder)  # what it has not finished moving is not its own
    earlier = files_of_run(folder, _FILES)
    new = RunIdentity.of(cfg, kind, data)
    if not earlier:
        return _take(new, data, folder)
    old_file = folder / FILE
    text = old_file.read_text(encoding="utf-8", errors="replace") if old_file.exists() else ""
    new = replace(new, moving=Moving(free_name(folder), text))
    note = f"{folder} holds files of an earlier run; moved to {folder / new.moving.to}"
    return _take(new, data, folder, note)


def _take(new: RunIdentity, data: Fingerprint, folder: Path, *notes: str) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
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
    move_into(aside, [*files_of_run(folder, _FILES), *foreign])
    if moving.identity:
        (aside / FILE).write_text(moving.identity, encoding="utf-8")
    identity = identity.moved()
    identity.write(folder)
    return identity


def _resume(cfg: CfgNode, kind: str, data: Fingerprint, allow_changes: bool) -> Run:
    """The run that is there, or a new one if there is none."""
    folder = Path(cfg.OUTPUT_DIR)
    now = RunIdentity.of(cfg, kind, data)
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
    if then.kind != kind:
        raise ResumeError(
            f"'{folder}' holds a {then.kind}, which a {kind} cannot go on with. Choose another "
            "OUTPUT_DIR, or start anew without --resume."
        )
    changes = config_changes(then.config, now.config)
    refused = [f"{key}: {values}" for key, values in changes.items() if not is_free(key)]
    if then.data is not None:
        refused += data.differences(then.data, folder / then.images_file)
    if refused and not allow_changes:
        raise ResumeError(
            f"'{folder}' holds another run than this command asks for: {'; '.join(refused)}. "
            "Go on all the same with --allow-changes (allow_changes), or start anew without "
            "--resume."
        )
    free = [f"{key}: {values}" for key, values in changes.items() if is_free(key)]
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
        known = replace(now, code=code_version(), config=config, data=None)
        if contents.get("run_id"):
            return replace(known, id=contents["run_id"])
        return replace(known, takes_unmarked=True)
    return replace(now, data=None, takes_unmarked=True) if candidates else None


def _checkpoints(folder: Path) -> list[Path]:
    """Those to resume from, whosever they are."""
    return Checkpointer(nn.Identity(), folder).resumable_files() if folder.is_dir() else []


def _versions(code: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in code.items())
