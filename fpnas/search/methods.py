"""The search methods by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from fpnas.config import CfgNode
from fpnas.config.checks import check_name, check_unused
from fpnas.search.differentiable import DifferentiableTrainer
from fpnas.search.supernet_trainer import SupernetTrainer
from fpnas.search.trainer import SearchTrainer

# SEARCH.METHOD -> the trainer that is this method
SEARCH_METHODS: Mapping[str, type[SupernetTrainer]] = MappingProxyType(
    {"probabilistic": SearchTrainer, "differentiable": DifferentiableTrainer}
)


def search_method(cfg: CfgNode) -> type[SupernetTrainer]:
    """The method that SEARCH.METHOD names.

    Raises ConfigError on an unknown one, and on keys that do not apply to it.
    """
    name = cfg.SEARCH.METHOD
    check_name("SEARCH.METHOD", name, SEARCH_METHODS)
    method = SEARCH_METHODS[name]
    unused = [f"SEARCH.{key}" for key in method.unused]
    check_unused(cfg, unused, f"SEARCH.METHOD {name!r}")
    return method
