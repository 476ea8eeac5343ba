"""Paths with a scheme, such as ``zoo://efficientnet_lite0``, as files on this machine."""

from __future__ import annotations

import importlib
import os

from iopath.common.file_io import PathManager

#: fpnas' own path manager; register handlers of your own schemes here.
path_manager = PathManager()

# Modules that register the handlers of our own schemes when they are imported. Only names: what
# reads a file stays below the zoo, and whoever reads no zoo path never loads it.
_PROVIDERS = {"zoo://": "fpnas.model_zoo", "pypi://": "fpnas.model_zoo"}


def local_path(path: str | os.PathLike[str], *, force: bool = False) -> str:
    """A file on this machine with the contents of ``path``; fetched or made first if need be.

    A path without a scheme is returned as it is. ``force`` fetches anew.
    """
    path = os.fspath(path)
    for scheme, module in _PROVIDERS.items():
        if path.startswith(scheme):
            importlib.import_module(module)
    return path_manager.get_local_path(path, force=force)
