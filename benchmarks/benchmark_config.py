"""The config of a benchmark's run: a file, the benchmark's own values, the user's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fpnas.config import CfgNode, find_config, get_cfg


def config_from(
    file: str | Path, overrides: Mapping[str, Any] | None = None, opts: Sequence[str] = ()
) -> CfgNode:
    """The defaults with ``file``, then ``overrides``, then ``opts`` (KEY VALUE ...) on them."""
    cfg = get_cfg()
    cfg.merge_from_file(find_config(file))
    cfg.merge_from_list([text for pair in (overrides or {}).items() for text in map(str, pair)])
    cfg.merge_from_list(list(opts))
    return cfg
