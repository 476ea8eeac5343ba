"""CfgNode: fvcore's config tree with messages that name the key, the value and what is valid."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from fvcore.common.config import CfgNode as _CfgNode

from fpnas.errors import ConfigError, check_known

_PACKAGE = Path(__file__).resolve().parents[1]


class CfgNode(_CfgNode):
    """fvcore's CfgNode (``_BASE_`` inheritance), restricted to safe YAML, strict about keys.

    Every ``merge_from_*`` raises :class:`~fpnas.errors.ConfigError` on an unknown key (with the
    nearest valid one), on a value of the wrong type and on unreadable YAML. A failed merge leaves
    the node as it was. Keys of earlier versions (``register_deprecated_key``) are passed over.

    Attributes are set under the same conditions once ``set_new_allowed(False)`` has closed the
    tree, as that of ``get_cfg()`` is. A section may still be added: ``cfg.MINE = CfgNode()``.
    """

    def __init__(
        self,
        init_dict: dict[str, Any] | None = None,
        key_list: list[str] | None = None,
        new_allowed: bool = True,
    ) -> None:
        super().__init__(init_dict, key_list, new_allowed)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a key. Raises ConfigError as a merge does, AttributeError in a frozen tree."""
        is_section = isinstance(value, _CfgNode)
        if not self.is_frozen() and not self.is_new_allowed() and not is_section:
            _check_known(self, name, prefix="", origin="attribute")
            value = _convert(value, self[name], name, origin="attribute")
        super().__setattr__(name, value)

    def merge_from_file(self, cfg_filename: str | Path, allow_unsafe: bool = False) -> None:
        """Merge a YAML file. ``allow_unsafe=True`` is refused: configs never execute code."""
        if allow_unsafe:
            raise ConfigError(
                f"{cfg_filename}: configs are safe YAML only, allow_unsafe is refused."
            )
        try:
            loaded = self.load_yaml_with_base(str(cfg_filename))
        except OSError as error:
            raise ConfigError(
                f"{cfg_filename}: cannot read '{error.filename}': {error.strerror}."
            ) from None
        except RecursionError:
            raise ConfigError(
                f"{cfg_filename}: its _BASE_ files refer to each other in a circle."
            ) from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{cfg_filename} is not plain YAML: {error}") from None
        except AssertionError as error:  # fvcore: a section here, a value in the base
            raise ConfigError(f"{cfg_filename}: {error}") from None
        except TypeError:
            raise ConfigError(f"{cfg_filename} is empty or no mapping of keys to values.") from None
        self._merge(loaded, origin=str(cfg_filename))

    def merge_from_list(self, cfg_list: list[str]) -> None:
        """Merge ``[KEY, VALUE, KEY, VALUE, ...]`` as given on a command line.

        Values are read as Python literals where they are some (``1e-3``, ``"(1, 2)"``), else as
        text. The value of a text key is taken as it stands (``DATA.ROOT 2024``).
        """
        if len(cfg_list) % 2:
            raise ConfigError(f"Overrides come as KEY VALUE pairs; '{cfg_list[-1]}' stands alone.")
        merged = self.clone()
        for key, text in zip(cfg_list[0::2], cfg_list[1::2], strict=True):
            value: Any = (
                text if isinstance(self._lookup(key), str) else self._decode_cfg_value(text)
            )
            for part in reversed(key.split(".")):
                value = {part: value}
            merged._merge(value, origin="command line")
        self._merge(merged, origin="command line")

    def merge_from_other_cfg(self, cfg_other: _CfgNode) -> None:
        """Merge another node of the same keys."""
        self._merge(cfg_other, origin="merged config")

    def _lookup(self, dotted_key: str) -> Any:
        """The value at ``A.B.C``, or None if there is no such key."""
        node: Any = self
        for part in dotted_key.split("."):
            node = node.get(part) if isinstance(node, CfgNode) else None
        return node

    def _merge(self, values: dict[str, Any], origin: str) -> None:
        if self.is_frozen():
            raise ConfigError(f"{origin}: this config is frozen; defrost() it before merging.")
        if not isinstance(values, dict):
            raise ConfigError(f"{origin} is no mapping of keys to values.")
        merged = self.clone()
        _merge_checked(merged, values, prefix="", origin=origin, root=self)
        found, ours = merged.get("VERSION"), self.get("VERSION")
        if found != ours:
            raise ConfigError(
                f"{origin}: written for VERSION {found}, this fpnas reads VERSION {ours}."
            )
        self.update(merged)


def _merge_checked(
    node: CfgNode, values: dict[str, Any], prefix: str, origin: str, root: CfgNode
) -> None:
    for key, value in values.items():
        full_key = f"{prefix}{key}"
        if key not in node and root.key_is_deprecated(full_key):  # yacs says so in the log
            continue
        _check_known(node, key, prefix, origin)
        current = node[key]
        if isinstance(current, CfgNode) and isinstance(value, dict):
            _merge_checked(current, value, f"{full_key}.", origin, root)
        else:
            node[key] = _convert(value, current, full_key, origin)


def _check_known(node: CfgNode, key: str, prefix: str, origin: str) -> None:
    full_key = f"{prefix}{key}"
    here = [f"{prefix}{name}" for name in node]
    below = _all_keys(node, prefix)
    check_known(full_key, here, f"{origin}: unknown key '{full_key}'", ConfigError, near=below)


def _all_keys(node: CfgNode, prefix: str) -> Iterator[str]:
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, CfgNode):
            yield from _all_keys(value, f"{prefix}{key}.")


def _convert(value: Any, default: Any, key: str, origin: str) -> Any:
    """``value`` as the type of ``default``: YAML reads 1e6 as text and (1, 2) as a list."""
    if isinstance(default, CfgNode):
        raise ConfigError(f"{origin}: '{key}' holds further keys, found {value!r}.")
    kind = type(default)
    if type(value) is kind and kind not in (float, list, tuple):
        return value
    if kind in (int, float):
        number = _as_number(value)
        if number is not None and kind is float:
            return number
        if number is not None and number.is_integer():
            return int(number)
    elif kind in (list, tuple) and isinstance(value, (list, tuple)):
        if not default:
            return kind(value)
        return kind(
            _convert(item, default[0], f"{key}[{i}]", origin) for i, item in enumerate(value)
        )
    raise ConfigError(
        f"{origin}: '{key}' must be of type {kind.__name__} (like {default!r}), "
        f"found {value!r} of type {type(value).__name__}."
    )


def _as_number(value: Any) -> float | None:
    """A finite number, also when written as text ("1e6"); None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def config_folder() -> Path:
    """The folder of the shipped configs: ``fpnas/configs`` if installed, else the checkout's."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def list_configs() -> list[str]:
    """Names of all shipped configs, relative to :func:`config_folder`, sorted."""
    folder = config_folder()
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml"))


def find_config(name: str | Path) -> Path:
    """The config file called ``name``: an existing path, or a shipped config.

    A shipped config is named relative to the configs folder, with or without a leading
    ``configs/``, so that ``configs/quick/train.yaml`` works outside a checkout, too.
    Raises ConfigError with the nearest shipped name if there is neither.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise ConfigError(f"Config file '{name}' is a folder; a YAML file is needed.")
    shipped_name = path.as_posix().removeprefix("./").removeprefix("configs/")
    check_known(
        shipped_name,
        list_configs(),
        f"Config file '{name}' does not exist, neither here nor among the shipped configs",
        ConfigError,
        listed="a file, or one that 'fpnas configs' lists",
    )
    return config_folder() / shipped_name
