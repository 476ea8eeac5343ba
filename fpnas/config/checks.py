"""Checks of config values, with one form of message: the key, what was found, what is valid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fpnas.config import CfgNode, get_cfg
from fpnas.errors import ConfigError, check_known


def check_value(key: str, value: object, is_valid: bool, valid: str) -> None:
    """Raise ConfigError for ``key`` unless ``is_valid``; ``valid`` says in words what would be."""
    if not is_valid:
        raise ConfigError(f"{key} is {value!r}; valid: {valid}.")


def check_name(key: str, value: object, names: Iterable[object]) -> None:
    """Raise ConfigError, with the nearest name, unless ``value`` is one of ``names``."""
    names = list(names)
    listed = ", ".join(repr(name) for name in names)
    check_known(value, names, f"{key} is {value!r}; valid: {listed}", ConfigError, listed="")


def check_unused(cfg: CfgNode, keys: Iterable[str], user: str) -> None:
    """Raise ConfigError for the first of the dotted ``keys`` without its default value.

    ``user``, such as "a search", does not use them: another value would do nothing.
    """
    values, defaults = dict(leaves(cfg)), dict(leaves(get_cfg()))
    for key in keys:
        is_default = values[key] == defaults[key]
        check_value(key, values[key], is_default, f"{defaults[key]!r}; {user} does not use it")


def leaves(cfg: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key that holds a value, with its sections (``DATA.AUGMENT.HFLIP``), and that value."""
    for name, value in cfg.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
