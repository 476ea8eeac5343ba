"""List, build and configure the architectures that are registered by name."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

from fpnas.config import CfgNode, find_config, get_cfg
from fpnas.errors import UserError

if TYPE_CHECKING:
    from fpnas.modeling import SearchedNet


def list_models(pattern: str = "*") -> list[str]:
    """Sorted names in ``ARCH_REGISTRY`` that match a shell pattern (``"fbnetv2_*"``)."""
    from fpnas.archs import ARCH_REGISTRY

    return sorted(fnmatch.filter(ARCH_REGISTRY.names(), pattern))


def get(name: str, pretrained: bool = False) -> SearchedNet:
    """The architecture ``name`` as a network with fresh weights.

    Raises UnknownNameError on an unknown name, and UserError on ``pretrained=True``: no checkpoint
    is published yet.
    """
    from fpnas.archs import get_arch
    from fpnas.modeling import SearchedNet

    arch = get_arch(name)
    if pretrained:
        raise UserError(
            f"No checkpoint of '{name}' is published; model_zoo.get('{name}') gives the network "
            "with fresh weights."
        )
    return SearchedNet(arch)


def get_config(name: str) -> CfgNode:
    """The shipped config ``name`` (``"quick/train.yaml"``), merged into the defaults."""
    cfg = get_cfg()
    cfg.merge_from_file(find_config(name))
    return cfg
