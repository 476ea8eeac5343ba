"""Paths with a scheme, such as ``zoo://efficientnet_lite0``, as files on this machine."""

from __future__ import annotations

import importlib
import os

from iopath.common.file_io import PathManager

from fpnas.utils import scheme_providers

#: fpnas' own path manager; register handlers of your own schemes here.
path_manager = PathManager()


def local_path(path: str | os.PathLike[str], *, force: bool = False) -> str:
    """A file on this machine with the contents of ``path``; fetched or made first if need be.

    A path without a scheme is returned as it is. ``force`` fetches anew. What provides a scheme is
    imported first; whoever reads no path of the zoo never loads it.
    """
    path = os.fspath(path)
    for scheme, module in scheme_providers.items():
        if path.startswith(scheme):
            importlib.import_module(module)
    return path_manager.get_local_path(path, force=force)
