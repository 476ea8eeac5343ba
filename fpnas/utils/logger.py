"""Logging of a run: the console and ``log.txt``, once per run however many processes it has."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from tqdm import tqdm

from fpnas.utils import comm

# Libraries whose messages belong into our log.
_LOGGERS = ("fpnas", "fvcore", "iopath")
_FORMAT = "%(asctime)s %(levelprefix)s%(message)s"
_DATE_FORMAT = "%m-%d %H:%M:%S"

# `extra=PROGRESS_RECORD` marks the lines that a progress bar shows, too.
PROGRESS_RECORD = {"progress": True}


class _Formatter(logging.Formatter):
    """Names the level of warnings and errors only; nearly all lines are plain information."""

    def format(self, record: logging.LogRecord) -> str:
        important = record.levelno >= logging.WARNING
        record.levelprefix = f"{record.levelname}: " if important else ""
        return super().format(record)


class _ConsoleHandler(logging.StreamHandler):
    """Writes to stderr above a running progress bar, and skips lines that repeat the bar."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def filter(self, record: logging.LogRecord) -> bool:
        shown_by_bar = getattr(record, "progress", False) and self.stream.isatty()
        return not shown_by_bar and bool(super().filter(record))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=self.stream)
        except Exception:
            self.handleError(record)


def setup_logger(output_dir: str | Path | None = None) -> logging.Logger:
    """Send the messages of fpnas (level INFO and above) to the console and to a file.

    The main process logs to stderr and appends to ``output_dir/log.txt``. The others write
    ``log.rank1.txt`` and so on, and only their errors appear on the console. Without ``output_dir``
    there is no file. A second call replaces the first. Returns the logger named "fpnas".

    Raises OSError when the file cannot be opened.
    """
    console = _ConsoleHandler()
    console.setLevel(logging.INFO if comm.is_main_process() else logging.ERROR)
    handlers: list[logging.Handler] = [console]
    if output_dir is not None:
        name = "log.txt" if comm.is_main_process() else f"log.rank{comm.get_rank()}.txt"
        handlers.append(logging.FileHandler(Path(output_dir) / name, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(_Formatter(_FORMAT, _DATE_FORMAT))
    for name in _LOGGERS:
        _replace_handlers(logging.getLogger(name), handlers)
    return logging.getLogger("fpnas")


def _replace_handlers(logger: logging.Logger, handlers: list[logging.Handler]) -> None:
    logger.setLevel(logging.INFO)
    for old in list(logger.handlers):
        if isinstance(old.formatter, _Formatter):  # ours, from an earlier call
            logger.removeHandler(old)
            old.close()
    for handler in handlers:
        logger.addHandler(handler)
