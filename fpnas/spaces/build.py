"""The search space of a config."""

from __future__ import annotations

from fpnas.blocks import SHORTCUTS
from fpnas.config import CfgNode
from fpnas.config.checks import check_name
from fpnas.spaces.network import NetworkSpace
from fpnas.spaces.registry import get_space


def build_space(cfg: CfgNode) -> NetworkSpace:
    """Space ``SEARCH.SPACE`` with ``SEARCH.SHORTCUT``; costs at its own input size and classes.

    Raises ConfigError on an unknown shortcut or one that the space's blocks do not have.
    """
    space, shortcut = get_space(cfg.SEARCH.SPACE), cfg.SEARCH.SHORTCUT
    check_name("SEARCH.SHORTCUT", shortcut, ("", *SHORTCUTS))
    return space.with_shortcut(shortcut) if shortcut else space
