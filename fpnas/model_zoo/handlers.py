"""``zoo://name``: published weights by name, wherever a checkpoint's path is expected."""

from __future__ import annotations

from typing import IO, Any

from iopath.common.file_io import PathHandler

from fpnas.errors import UserError
from fpnas.model_zoo.names import get_record
from fpnas.model_zoo.pypi import PyPIHandler
from fpnas.model_zoo.record import ZooRecord
from fpnas.model_zoo.weights import get_checkpoint_file
from fpnas.utils.file_io import path_manager

PREFIX = "zoo://"


class ZooHandler(PathHandler):
    """Resolves ``zoo://name`` to the file of :func:`get_checkpoint_file`."""

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        """``force`` changes nothing: every call verifies the file, and mends what it can."""
        self._check_kwargs(kwargs)
        return str(get_checkpoint_file(path.removeprefix(PREFIX)))

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO[Any]:
        if mode not in ("r", "rb"):
            raise UserError(f"'{path}' lies in the model zoo and can only be read.")
        return open(self._get_local_path(path), mode, buffering=buffering, **kwargs)


def published_record(weights: str) -> ZooRecord | None:
    """The record behind the path of a checkpoint; None unless that is ``zoo://name``."""
    return get_record(weights.removeprefix(PREFIX)) if weights.startswith(PREFIX) else None


def register_handlers() -> None:
    """Make ``zoo://`` and ``pypi://`` known to fpnas' path manager."""
    path_manager.register_handler(ZooHandler())
    path_manager.register_handler(PyPIHandler())
