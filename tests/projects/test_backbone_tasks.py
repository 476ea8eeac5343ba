"""Keys that a task on a backbone does not read are refused, whatever is added to fpnas' tree."""

from __future__ import annotations

import pytest

from fpnas.config import CfgNode, get_cfg
from fpnas.config.checks import leaves
from fpnas.errors import ConfigError
from fpnas_tasks.config import READ_KEYS, check_unread

KEYS = dict(leaves(get_cfg()))


def with_another(key: str) -> CfgNode:
    """The defaults but for ``key``."""
    cfg = get_cfg()
    *sections, name = key.split(".")
    node = cfg
    for section in sections:
        node = node[section]
    others = {bool: lambda v: not v, str: lambda v: f"{v}x", tuple: lambda v: (*v, 1)}
    node[name] = others.get(type(node[name]), lambda v: v + 1)(node[name])
    return cfg


def test_the_keys_that_are_read_exist() -> None:
    assert KEYS.keys() >= READ_KEYS


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_read_or_refused(key: str) -> None:
    cfg = with_another(key)
    if key in READ_KEYS:
        check_unread(cfg, "a detector")
    else:
        with pytest.raises(ConfigError, match=rf"^{key} is .*; a detector does not use it"):
            check_unread(cfg, "a detector")


def test_sections_of_a_task_are_its_own() -> None:
    cfg = get_cfg()
    cfg.MINE = CfgNode({"DEPTH": 3})
    check_unread(cfg, "a detector")
