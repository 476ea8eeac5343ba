"""Plain data to frozen dataclasses and back, strictly: every key known, none missing, right types.

One way of reading for all that fpnas keeps in YAML, JSON and checkpoints as mappings.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import yaml

from fpnas.errors import ConfigError, UserError, check_known

T = TypeVar("T")

#: From the plain value of a field and what messages call it to the value of the dataclass.
Reader = Callable[[Any, str], Any]


def load_yaml(text: str, where: str) -> Any:
    """The plain data in ``text``. Raises ConfigError, which names ``where``, on anything else."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not plain YAML: {error}") from None


def parse(
    cls: type[T],
    data: Any,
    where: str,
    *,
    readers: Mapping[str, Reader] | None = None,
    error: type[UserError] = ConfigError,
) -> T:
    """``data``, a mapping as YAML gives it, as the dataclass ``cls``.

    Fields may be str, int, float, bool, ``X | Y``, tuples and dataclasses of these. A key may be
    left out only if its field has a default.

    Args:
        cls: a dataclass.
        data: its fields by name.
        where: what messages call the data, such as the name of its file.
        readers: how fields are read, by name; all others are taken as they are, and ``cls`` itself
            checks them. None: all are read by their types.
        error: what is raised.

    Raises ``error``, which names the key that is unknown, missing or of another type, and whatever
    UserError ``cls`` raises, with ``where`` before its message.
    """
    if not isinstance(data, Mapping):
        raise error(f"{where} must be a mapping of keys to values, found {data!r}.")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in data:
        check_known(key, fields, f"{where}: unknown key '{key}'", error)
    missing = [name for name, field in fields.items() if name not in data and not _optional(field)]
    if missing:
        found = ", ".join(data) or "none"
        raise error(f"{where}: missing key(s) {', '.join(missing)}; found {found}.")
    if readers is None:
        kinds = typing.get_type_hints(cls)
        readers = {name: functools.partial(_convert, kinds[name], error=error) for name in data}
    values = {
        name: readers[name](value, f"{where}: '{name}'") if name in readers else value
        for name, value in data.items()
    }
    try:
        return cls(**values)
    except UserError as problem:
        raise type(problem)(f"{where}: {problem}") from None


def to_plain(value: Any) -> Any:
    """A dataclass as mappings, lists, text and numbers: the inverse of :func:`parse` by types."""
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: to_plain(getattr(value, name)) for name in names}
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    return value


def _optional(field: dataclasses.Field) -> bool:
    defaults = (field.default, field.default_factory)
    return any(default is not dataclasses.MISSING for default in defaults)


def _convert(kind: Any, value: Any, where: str, error: type[UserError]) -> Any:
    if dataclasses.is_dataclass(kind):
        return parse(kind, value, where, error=error)
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return _first_that_fits(typing.get_args(kind), value, where, error)
    if origin is tuple:
        return _tuple(typing.get_args(kind), value, where, error)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise error(f"{where} must be of type {kind.__name__}, found {value!r}.")
    return value


def _first_that_fits(kinds: tuple[Any, ...], value: Any, where: str, error: type[UserError]) -> Any:
    if value is None and type(None) in kinds:
        return None
    problems = []
    for kind in kinds:
        if kind is not type(None):
            try:
                return _convert(kind, value, where, error)
            except UserError as problem:
                problems.append(problem)
    raise problems[0]


def _tuple(
    kinds: tuple[Any, ...], value: Any, where: str, error: type[UserError]
) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise error(f"{where} must be a list, found {value!r}.")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise error(f"{where} must have {len(kinds)} items, found {len(value)}.")
    return tuple(
        _convert(kind, item, f"{where}[{i}]", error)
        for i, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )
