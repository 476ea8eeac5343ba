"""Settings of the whole suite: one thread a process, no display, repeatable tests, own cache."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Before anything imports torch or matplotlib: small tensors gain nothing from more threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# The same examples in every run; a slow machine is no failure.
settings.register_profile("fpnas", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("fpnas")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An empty cache folder: what the user has downloaded changes no result."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FPNAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def restored_loggers() -> Iterator[None]:
    """Undo what a test did to the loggers of fpnas: a run sets levels and adds handlers."""
    before = {logger: (logger.level, list(logger.handlers)) for logger in _fpnas_loggers()}
    yield
    for logger in _fpnas_loggers():
        level, logger.handlers = before.get(logger, (logging.NOTSET, []))
        logger.setLevel(level)


def _fpnas_loggers() -> list[logging.Logger]:
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "fpnas"]
    return [logging.getLogger(name) for name in names]
