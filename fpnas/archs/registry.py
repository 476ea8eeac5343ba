"""Architectures by name."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from fpnas.archs.architecture import Architecture
from fpnas.errors import UnknownNameError
from fpnas.utils.registry import Registry

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

ARCH_REGISTRY = Registry(
    "ARCH",
    contract="""Names of architectures: callables without arguments that return an Architecture.

    Register your own::

        @ARCH_REGISTRY.register()
        def my_net() -> Architecture:
            return Architecture.load("my_net.yaml")

    The files of ``fpnas/archs/named/`` are registered under their file names.
    """,
)


def get_arch(name: str | Path) -> Architecture:
    """The architecture of that name in ARCH_REGISTRY, or the one in that YAML file.

    Raises UnknownNameError on an unknown name and ConfigError on a file that is no architecture.
    """
    text = str(name)
    if text in ARCH_REGISTRY:
        return ARCH_REGISTRY.get(text)()
    if text.endswith((".yaml", ".yml")):
        return Architecture.load(text)
    try:
        return ARCH_REGISTRY.get(text)()
    except UnknownNameError as error:
        raise UnknownNameError(f"{error} A YAML file's name ends in .yaml.") from None


def _register_named_files() -> None:
    for file in sorted(resources.files("fpnas.archs").joinpath("named").iterdir(), key=str):
        if file.name.endswith(".yaml"):
            ARCH_REGISTRY.register(_reader(file), name=file.name.removesuffix(".yaml"))


def _reader(file: Traversable) -> Callable[[], Architecture]:
    return lambda: Architecture.from_yaml(file.read_text(encoding="utf-8"))


_register_named_files()
