"""Search spaces by name, and the space of a config."""

from __future__ import annotations

from fpnas.blocks import SHORTCUTS
from fpnas.config import CfgNode
from fpnas.config.checks import check_name
from fpnas.spaces.network import NetworkSpace
from fpnas.utils.registry import Registry

SPACE_REGISTRY = Registry(
    "SPACE",
    contract="""Names of search spaces: callables without arguments that return a NetworkSpace.

    Register your own::

        @SPACE_REGISTRY.register(name="My-Space")
        def my_space() -> NetworkSpace:
            return NetworkSpace("My-Space", input_size=32, stem=..., block_groups=[...], head=...)
    """,
)


def get_space(name: str) -> NetworkSpace:
    """The space called ``name``. Raises UnknownNameError, which lists the names."""
    return SPACE_REGISTRY.get(name)()


def build_space(cfg: CfgNode) -> NetworkSpace:
    """Space ``SEARCH.SPACE`` with ``SEARCH.SHORTCUT``; costs at its own input size and classes.

    Raises ConfigError on an unknown shortcut or one that the space's blocks do not have.
    """
    space, shortcut = get_space(cfg.SEARCH.SPACE), cfg.SEARCH.SHORTCUT
    check_name("SEARCH.SHORTCUT", shortcut, ("", *SHORTCUTS))
    return space.with_shortcut(shortcut) if shortcut else space
