"""What a run left in its folder beside metrics and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fpnas.archs import Architecture
from fpnas.errors import ConfigError
from fpnas.report.html import folded


def read_architecture(output_dir: Path) -> Architecture | None:
    """The architecture.yaml of a run; None if it has none. Raises ConfigError on a damaged one."""
    path = output_dir / "architecture.yaml"
    return Architecture.load(path) if path.is_file() else None


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML file of keys and values; empty if there is no such file.

    Raises ConfigError, which names the file, if it holds anything else.
    """
    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not plain YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is no mapping of keys to values.")
    return content


def folded_files(output_dir: Path, *names: str) -> str:
    """The texts of those of the files that are there, folded."""
    paths = [output_dir / name for name in names]
    return "".join(
        folded(path.name, path.read_text(encoding="utf-8")) for path in paths if path.is_file()
    )
