"""Settings of the whole suite: one thread a process, no display, repeatable property tests."""

from __future__ import annotations

import os

from hypothesis import settings

# Before anything imports torch or matplotlib.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# The same examples in every run; a slow machine is no failure.
settings.register_profile("fpnas", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("fpnas")
