"""The architectures that were searched here, and what their searches took."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

import yaml

from fpnas.archs import Architecture, get_arch
from fpnas.model_zoo.record import SearchCost
from fpnas.utils.records import parse


@dataclass(frozen=True)
class Found:
    """What a search found for one of its targets.

    Attributes:
        arch: name in ARCH_REGISTRY.
        target: multiply-adds that it may cost at its own input size.
        val_loss: cross-entropy of the validation half, with the supernet's weights.
        paper: the paper's network with this target, a ``model`` of paper.yaml.
    """

    arch: str
    target: float
    val_loss: float
    paper: str | None = None

    def build_arch(self) -> Architecture:
        """The architecture."""
        return get_arch(self.arch)


@dataclass(frozen=True)
class Search:
    """One search and all that it found.

    Attributes:
        config: as ``--config-file`` takes it.
        data: the images, in words.
        commit, seed: with which it ran.
        cost: of the whole search.
    """

    config: str
    data: str
    commit: str
    seed: int
    cost: SearchCost
    found: tuple[Found, ...]


@dataclass(frozen=True)
class _Searches:
    """Contents of ``searched.yaml``."""

    searches: tuple[Search, ...]


def searches() -> tuple[Search, ...]:
    """All of them, in the order in which they were adopted."""
    text = resources.files("fpnas.model_zoo").joinpath("searched.yaml").read_text(encoding="utf-8")
    return parse(_Searches, yaml.safe_load(text), "searched.yaml").searches
