"""Errors whose message is meant for the user.

Everything that a user can cause (a misspelt key, an empty folder, a target that no architecture
reaches) raises a :class:`UserError`. The command line prints its message as one paragraph and exits
with code 2; any other exception is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


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


def some(names: Sequence[str], most: int = 5) -> str:
    """The first ``names``, for a message: ``a, b, c, ...``."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def check_known(
    name: object,
    valid: Iterable[object],
    unknown: str,
    error: type[UserError] = UnknownNameError,
    *,
    near: Iterable[object] = (),
    listed: str | None = None,
) -> None:
    """Raise ``error`` unless ``name`` is one of ``valid``.

    The message is ``unknown``, then the nearest name, if one is near, then what is valid:
    ``Unknown gate 'sigmoyd'. Did you mean 'sigmoid'? Valid: sigmoid, hsigmoid.``

    Args:
        name: what was found; of any type.
        valid: what it may be.
        unknown: what is wrong, in words, with ``name`` and without a full stop.
        error: its type.
        near: further names that a misspelt one may stand for.
        listed: what stands after "Valid:"; by default the names. Empty: nothing does.
    """
    valid = list(valid)
    if name in valid:
        return
    names = [str(one) for one in (*valid, *near)]
    nearest = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
    if listed is None:
        listed = ", ".join(map(str, valid)) or "nothing yet"
    raise error(f"{unknown}.{hint}" + (f" Valid: {listed}." if listed else ""))
