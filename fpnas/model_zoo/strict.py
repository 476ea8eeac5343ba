"""Plain data to frozen dataclasses, strictly: every key known, none missing, every type right."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from fpnas.errors import ConfigError, check_known

T = TypeVar("T")


def parse(cls: type[T], data: Any, where: str) -> T:
    """``data``, a mapping as YAML gives it, as the dataclass ``cls``.

    Fields may be str, int, float, bool, ``X | Y``, tuples and dataclasses of these. A key may be
    left out only if its field has a default.

    Args:
        cls: a dataclass.
        data: its fields by name.
        where: what messages call the data, such as the name of its file.

    Raises ConfigError, which names the key that is unknown, missing or of another type.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: must be a mapping of keys to values, found {data!r}.")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in data:
        check_known(key, fields, f"{where}: unknown key '{key}'", ConfigError)
    missing = [name for name, field in fields.items() if name not in data and not _optional(field)]
    if missing:
        raise ConfigError(f"{where}: missing key(s) {', '.join(missing)}.")
    kinds = typing.get_type_hints(cls)
    values = {name: _convert(kinds[name], data[name], f"{where}: '{name}'") for name in data}
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def to_plain(value: Any) -> Any:
    """A dataclass as mappings, lists, text and numbers: the inverse of :func:`parse`."""
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: to_plain(getattr(value, name)) for name in names}
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    return value


def _optional(field: dataclasses.Field) -> bool:
    return field.default is not dataclasses.MISSING


def _convert(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return parse(kind, value, where)
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return _first_that_fits(typing.get_args(kind), value, where)
    if origin is tuple:
        return _tuple(typing.get_args(kind), value, where)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ConfigError(f"{where} must be of type {kind.__name__}, found {value!r}.")
    return value


def _first_that_fits(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    errors = []
    for kind in kinds:
        if kind is not type(None):
            try:
                return _convert(kind, value, where)
            except ConfigError as error:
                errors.append(str(error))
    raise ConfigError(errors[0])


def _tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{where} must be a list, found {value!r}.")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise ConfigError(f"{where} must have {len(kinds)} items, found {len(value)}.")
    return tuple(
        _convert(kind, item, f"{where}[{i}]")
        for i, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )
