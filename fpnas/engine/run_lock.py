"""Only one run at a time in a folder."""

from __future__ import annotations

import contextlib
import os
import platform
from datetime import datetime
from pathlib import Path
from typing import IO

from fpnas.errors import ResumeError

try:
    import fcntl
except ImportError:  # not on Windows, where two runs in a folder are not noticed
    fcntl = None

_FILE = ".run.lock"


class RunLock:
    """Holds a folder until :meth:`release`, or until the process ends, however it ends.

    The lock belongs to this process alone, not to workers that it forks: after a kill the folder is
    free at once. It is advisory, and on network file systems as good as theirs.

    Raises ResumeError, which names process, host and start of the run that holds the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._file: IO[str] | None = None
        if fcntl is None:
            return
        file = (folder / _FILE).open("a+", encoding="utf-8")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read(200).strip() or "another process"
            file.close()
            raise ResumeError(
                f"'{folder}' is in use by {owner}. Wait for it, stop it, or choose another "
                "OUTPUT_DIR."
            ) from None
        except OSError:  # a file system without locks
            file.close()
            return
        file.truncate(0)
        now = datetime.now().isoformat(" ", "seconds")
        file.write(f"process {os.getpid()} on {platform.node()}, which started at {now}\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        """Let others have the folder; may be called again."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.truncate(0)
            self._file.close()
            self._file = None
