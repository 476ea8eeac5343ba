"""Search spaces by name."""

from __future__ import annotations

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
