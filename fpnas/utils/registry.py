"""fvcore's Registry with names chosen by the caller and with errors that help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fvcore.common.registry import Registry as _Registry

from fpnas.errors import UserError, check_known


class Registry(_Registry):
    """Maps names to plain callables.

    As in fvcore, ``@REGISTRY.register()`` files an object under its ``__name__``. Names that are no
    Python identifiers are given explicitly: ``@REGISTRY.register(name="FBNetV2-F++")``.

    What a registered object must look like (its contract) is stated in ``registry.__doc__`` of each
    registry: ``help(fpnas.blocks.BLOCK_REGISTRY)``.
    """

    def __init__(self, name: str, contract: str) -> None:
        super().__init__(name)
        self.__doc__ = contract

    def register(self, obj: Any = None, *, name: str | None = None) -> Any:
        """Register ``obj``, or return a decorator that does. Raises UserError on a taken name."""
        if obj is None:
            return lambda decorated: self.register(decorated, name=name)
        name = name or obj.__name__
        if name in self._obj_map:
            raise UserError(
                f"The {self._name} registry already has '{name}' ({self._obj_map[name]!r}); "
                "register the new one under another name."
            )
        self._obj_map[name] = obj
        return obj

    def get(self, name: str) -> Callable[..., Any]:
        """The object called ``name``. Raises UnknownNameError, which lists the valid names."""
        check_known(name, sorted(self._obj_map), f"No '{name}' in the {self._name} registry")
        return self._obj_map[name]

    def names(self) -> list[str]:
        """All registered names, in order of registration."""
        return list(self._obj_map)
