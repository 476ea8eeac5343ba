"""Errors whose message is meant for the user.

Everything that a user can cause (a misspelt key, an empty folder, a target that no architecture
reaches) raises a :class:`UserError`. The command line prints its message as one paragraph and exits
with code 2; any other exception is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Wrong input. The message names the key or file, what was found and what would be valid."""


class ConfigError(UserError):
    """A config key or value that cannot be used."""


class UnknownNameError(UserError, KeyError):
    """A registry has no entry of the requested name."""

    __str__ = Exception.__str__  # KeyError would print the repr of the message


class DataError(UserError):
    """A dataset folder or an image that cannot be used."""


class CheckpointError(UserError):
    """A checkpoint that is damaged or belongs to another architecture."""


class ResumeError(CheckpointError):
    """A run that was to be resumed, and that is another one than the folder holds."""


class BudgetError(UserError):
    """A target cost that no architecture of the space meets."""


class DivergedError(UserError):
    """The loss became NaN or infinite; raised before the weights are updated."""


def did_you_mean(name: object, valid: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the valid name nearest to ``name``, or an empty string."""
    nearest = difflib.get_close_matches(str(name), list(valid), n=1, cutoff=0.6)
    return f" Did you mean '{nearest[0]}'?" if nearest else ""
