"""Checkpoints that survive a kill at any moment, over fvcore's Checkpointer.

A file is written beside its place, flushed to the disk and renamed, so that under its final name it
is always complete. Files hold tensors and plain Python values only and are read with
``weights_only=True``: loading a checkpoint never executes code.
"""

from __future__ import annotations

import logging
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fvcore.common.checkpoint import Checkpointer as _Checkpointer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fpnas.errors import CheckpointError, some
from fpnas.utils import comm
from fpnas.utils.file_io import TEMPORARY_SUFFIX, atomic_write, local_path

_PERIODIC_NAME = re.compile(r"model_(\d{7,})\.pth")
# BatchNorm's counter of batches, which nothing reads; a frozen BatchNorm has none.
_COUNTER = ".num_batches_tracked"


class DamagedCheckpointError(CheckpointError):
    """A checkpoint file that cannot be read: cut off, altered, or no checkpoint at all."""


class ForeignCheckpointError(CheckpointError):
    """A checkpoint of another run than the one that was to go on from it."""


@dataclass(frozen=True)
class RunTag:
    """Which checkpoints are a run's own.

    Attributes:
        id: stands in each of them.
        takes_unmarked: those without an id are, too: the run is older than ids.
    """

    id: str
    takes_unmarked: bool = False

    def owns(self, run_id: str | None) -> bool:
        """Whether a checkpoint with ``run_id``, None for none, is this run's."""
        return run_id == self.id or (run_id is None and self.takes_unmarked)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The contents of a ``.pth`` or ``.safetensors`` file, on the CPU; weights under "model".

    ``path`` may be one of the model zoo, too: ``zoo://efficientnet_lite0``.
    A file that is a plain state dict gives ``{"model": state_dict}``. Raises CheckpointError if
    there is no such file, DamagedCheckpointError if it cannot be read.
    """
    path = Path(local_path(path))
    contents = read_tensors(path)
    if path.suffix == ".safetensors":
        return {"model": contents}
    if not isinstance(contents, dict):
        raise DamagedCheckpointError(
            f"'{path}' is no checkpoint: it holds a {type(contents).__name__} instead of a dict."
        )
    if isinstance(contents.get("model"), dict):
        return contents
    if contents and all(isinstance(value, Tensor) for value in contents.values()):
        return {"model": contents}
    raise DamagedCheckpointError(
        f"'{path}' is no checkpoint: it has no weights under 'model'. Weights of another project: "
        "'fpnas zoo import' renames them to ours."
    )


def read_tensors(path: Path) -> Any:
    """What a file holds, whatever its structure; raises as :func:`read_checkpoint`."""
    if not path.is_file():
        raise CheckpointError(f"Checkpoint '{path}' does not exist or is no file.")
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise DamagedCheckpointError(f"Checkpoint '{path}' is damaged: {error}.") from error


def _read_torch(path: Path) -> Any:
    # torch.load does not compare checksums: it would hand over altered weights without a word.
    try:
        altered = None
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                altered = archive.testzip()
        if altered is None:
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise DamagedCheckpointError(
            f"Checkpoint '{path}' is damaged, or holds more than tensors and plain values "
            f"({type(error).__name__})."
        ) from error
    raise DamagedCheckpointError(
        f"Checkpoint '{path}' is damaged: wrong checksum of its part '{altered}'."
    )


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load the weights of a file, or of the model zoo (``zoo://name``), into ``model``.

    Raises CheckpointError if the file cannot be read or does not fit, and then leaves the model
    as it was.
    """
    copy_weights(model, read_weights(path), str(path))


def read_weights(path: str | Path) -> dict[str, Any]:
    """The weights of a file, or of the model zoo, by name; raises as :func:`read_checkpoint`."""
    return _plain_names(read_checkpoint(path)["model"])


def _plain_names(weights: Mapping[str, Any]) -> dict[str, Any]:
    prefix = "module."  # of a model that was saved inside DistributedDataParallel
    if weights and all(name.startswith(prefix) for name in weights):
        return {name.removeprefix(prefix): value for name, value in weights.items()}
    return dict(weights)


def copy_weights(model: nn.Module, weights: Mapping[str, Any], source: str) -> None:
    """Copy ``weights`` into ``model`` if names and shapes are exactly the model's.

    BatchNorm's counters of batches may be missing or too many. Raises CheckpointError, which names
    ``source``, if anything else differs, and then leaves the model as it was.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in weights and not name.endswith(_COUNTER)]
    unexpected = [name for name in weights if name not in own and not name.endswith(_COUNTER)]
    reshaped = [
        f"{name}: {_shape(weights[name])} in the file, {_shape(own[name])} in the model"
        for name in own
        if name in weights and _shape(weights[name]) != _shape(own[name])
    ]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    found = [f"{kind}: {len(ns)} ({some(ns, 3)})" for kind, ns in problems.items() if ns]
    if found:
        raise CheckpointError(
            f"'{source}' does not fit the model; weights {'; '.join(found)}. It belongs to another "
            "architecture or number of classes."
        )
    model.load_state_dict({name: weights.get(name, own[name]) for name in own}, strict=True)


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


class Checkpointer(_Checkpointer):
    """Saves and restores a model together with everything else that a run needs to go on.

    Args:
        model: its weights are stored under "model"; DistributedDataParallel is unwrapped.
        save_dir: folder of the checkpoints, which exists.
        config: the run's config as YAML text, stored under "config" in every checkpoint.
        run: marks every file as this run's, under "run_id"; no other run's file is loaded then.
        checkpointables: further objects with ``state_dict`` and ``load_state_dict``, such as
            ``optimizer=`` and ``trainer=``. All of them must be in a checkpoint that is resumed.

    With several processes, all call the methods (a state may need all of them); one writes.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str | Path = "",
        *,
        config: str = "",
        run: RunTag | None = None,
        **checkpointables: Any,
    ) -> None:
        super().__init__(
            model, str(save_dir), save_to_disk=comm.is_main_process(), **checkpointables
        )
        self.config = config
        self.run = run
        self.logger = logging.getLogger(__name__)

    def save(self, name: str, **extra: Any) -> None:
        """Write ``save_dir/name.pth`` and make it the checkpoint to resume from.

        ``extra`` is stored, too, and returned by :meth:`load`. Collective.
        Raises CheckpointError if the disk is full or the folder is not writable, TypeError if a
        state holds what ``weights_only=True`` would not load.
        """
        data = {"model": self.model.state_dict(), "config": self.config, **extra}
        for key, checkpointable in self.checkpointables.items():
            if key in data:
                raise ValueError(f"'{key}' names both a checkpointable and something else.")
            data[key] = checkpointable.state_dict()
        self.write(name, data)
        if self.save_to_disk:
            self.tag_last_checkpoint(f"{name}.pth")

    def write(self, name: str, data: Mapping[str, Any]) -> None:
        """Write ``save_dir/name.pth`` atomically, without making it the one to resume from."""
        if not self.save_to_disk:
            return
        data = dict(data) if self.run is None else {**data, "run_id": self.run.id}
        _check_loadable(data, name)
        path = self.path(name)
        self.logger.info("Saving checkpoint to %s", path)
        try:
            with atomic_write(path) as file:
                torch.save(data, file)
        except (OSError, RuntimeError) as error:  # PyTorch wraps a full disk in a RuntimeError
            raise CheckpointError(
                f"Cannot write '{path}': {error}. Earlier checkpoints are intact; make room, then "
                "go on with --resume."
            ) from error

    def path(self, name: str) -> Path:
        """Where the checkpoint called ``name`` is or would be."""
        return Path(self.save_dir) / f"{name}.pth"

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Name the file to resume from in ``last_checkpoint``."""
        with atomic_write(Path(self.save_dir) / "last_checkpoint") as file:
            file.write(last_filename_basename.encode())

    def load(self, path: str | Path) -> dict[str, Any]:
        """Load the model and all checkpointables.

        Returns what else is in the file. Raises CheckpointError if the file does not exist, is
        damaged, is of another run, does not fit the model or lacks a checkpointable.
        """
        contents = read_checkpoint(path)
        run_id = contents.pop("run_id", None)
        if self.run is not None and not self.run.owns(run_id):
            raise ForeignCheckpointError(
                f"'{path}' is of another run: its id is {run_id}, this run's {self.run.id}."
            )
        lacking = [name for name in self.checkpointables if name not in contents]
        if lacking:
            raise CheckpointError(
                f"'{path}' cannot be resumed: it lacks the state of {', '.join(lacking)}. As "
                "MODEL.WEIGHTS it can still be the start of a new run."
            )
        copy_weights(self.model, _plain_names(contents.pop("model")), str(path))
        for name, checkpointable in self.checkpointables.items():
            try:
                checkpointable.load_state_dict(contents.pop(name))
            except (KeyError, ValueError, RuntimeError) as error:
                raise CheckpointError(
                    f"'{path}' was made by another kind of run: the state of '{name}' does not "
                    f"fit ({error})."
                ) from error
        self.logger.info("Loaded checkpoint %s", path)
        return contents

    def resume_or_load(self, path: str | Path, *, resume: bool = True) -> dict[str, Any]:
        """Go on from the last checkpoint in ``save_dir``, or start from the weights at ``path``.

        If the last checkpoint is damaged, or of another run, the one before it is taken, with a
        warning. If ``resume`` is False or there is no checkpoint yet, the weights at ``path`` (.pth
        or .safetensors) are loaded, or nothing if it is empty. Returns the rest of the resumed
        file, else ``{}``.
        """
        candidates = self.resumable_files() if resume else []
        for candidate in candidates:
            try:
                return self.load(candidate)
            except (DamagedCheckpointError, ForeignCheckpointError) as error:
                self.logger.warning("%s Trying the checkpoint before it.", error)
        if candidates:
            raise CheckpointError(
                f"None of the checkpoints in '{self.save_dir}' can be resumed: "
                f"{', '.join(file.name for file in candidates)}. Start anew without --resume."
            )
        if resume:
            self.logger.info("No checkpoint in %s yet: starting from the beginning", self.save_dir)
        if path:
            load_weights(self.model, path)
            self.logger.info("Loaded weights from %s", path)
        return {}

    def resumable_files(self) -> list[Path]:
        """The existing checkpoints to resume from, the best first.

        That is the one named by ``last_checkpoint``, then the periodic ones that are older.
        """
        periodic = self._periodic_files()
        tagged = self._tagged_file()
        if tagged is None:
            return list(periodic.values())
        newest = _iteration(tagged.name)
        older = [file for it, file in periodic.items() if newest is None or it < newest]
        return [*([tagged] if tagged.is_file() else []), *older]

    def prune(self, keep: int) -> None:
        """Delete all but ``keep`` periodic checkpoints: the last, and those just before it.

        A periodic one beyond the last is left from before a run fell back; it goes, too.
        """
        if not self.save_to_disk:
            return
        periodic = self._periodic_files().values()
        kept = [file for file in self.resumable_files() if file in periodic][:keep]
        for file in periodic:
            if file not in kept:
                file.unlink(missing_ok=True)

    def remove_temporary_files(self) -> None:
        """Delete what a kill in the middle of a save has left."""
        if self.save_to_disk:
            for file in Path(self.save_dir).glob(f"*{TEMPORARY_SUFFIX}"):
                file.unlink(missing_ok=True)

    def _tagged_file(self) -> Path | None:
        name = Path(self.get_checkpoint_file()).name if self.has_checkpoint() else ""
        return Path(self.save_dir) / name if name else None

    def _periodic_files(self) -> dict[int, Path]:
        """Iteration -> file of the complete periodic checkpoints, the newest first."""
        found = {}
        for file in Path(self.save_dir).iterdir():
            iteration = _iteration(file.name)
            if iteration is not None:
                found[iteration] = file
        return dict(sorted(found.items(), reverse=True))


def periodic_name(iteration: int) -> str:
    """Name of the checkpoint after ``iteration`` finished steps."""
    return f"model_{iteration:07d}"


def _iteration(filename: str) -> int | None:
    match = _PERIODIC_NAME.fullmatch(filename)
    return int(match[1]) if match else None


def _check_loadable(value: Any, where: str) -> None:
    """Raise TypeError at save time for what ``weights_only=True`` would refuse at load time.

    Types are compared exactly: a NumPy float is a subclass of float and yet cannot be loaded.
    """
    if type(value) in (dict, OrderedDict):
        for key, item in value.items():
            _check_loadable(key, f"{where}, key {key!r}")
            _check_loadable(item, f"{where}.{key}")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            _check_loadable(item, f"{where}[{index}]")
    elif type(value) not in (Tensor, nn.Parameter, str, int, float, bool, type(None)):
        raise TypeError(
            f"Checkpoint {where} is of type {type(value).__name__}; checkpoints hold tensors, "
            "str, int, float, bool, None, list, tuple and dict only."
        )
