"""Weights of timm's EfficientNet and MobileNetV3, of which its other mobile networks are cases.

Its names: ``conv_stem``, ``bn1``; the blocks ``blocks.STAGE.BLOCK``, both counted from 0, inside of
which convolutions have names of their own and BatchNorms are numbered; ``conv_head``, ``bn2``
(absent where the head pools first), ``classifier``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from torch import Tensor

from fpnas.archs import Architecture
from fpnas.blocks import BlockSpec, ConvSpec, MBConvSpec, PooledHeadSpec, SkipSpec
from fpnas.model_zoo.importing.mapping import rename

_OUTSIDE = {"stem.conv": "conv_stem", "stem.bn": "bn1", "head.fc": "classifier"}
_HEAD = {"head.conv.conv": "conv_head", "head.conv.bn": "bn2"}
_CONV = {"conv": "conv", "bn": "bn1"}
_ATTENTION = {"attention.fc1": "se.conv_reduce", "attention.fc2": "se.conv_expand"}
_INVERTED_RESIDUAL = {
    "expand.conv": "conv_pw",
    "expand.bn": "bn1",
    "depthwise.conv": "conv_dw",
    "depthwise.bn": "bn2",
    **_ATTENTION,
    "project.conv": "conv_pwl",
    "project.bn": "bn3",
}
_DEPTHWISE_SEPARABLE = {
    "depthwise.conv": "conv_dw",
    "depthwise.bn": "bn1",
    **_ATTENTION,
    "project.conv": "conv_pw",
    "project.bn": "bn2",
}


def from_timm_state(state_dict: Mapping[str, Tensor], arch: Architecture) -> dict[str, Tensor]:
    """Our weights of ``arch`` from those of its counterpart in timm.

    The counterpart has the strings of :func:`fpnas.contrib.timm.to_timm`: skips that are the
    identity do not count among its blocks. Raises CheckpointError, which lists the names that do
    not fit on either side.
    """
    modules = _module_names(arch)

    def foreign_name(name: str) -> str | None:
        module, _, leaf = name.rpartition(".")
        return f"{modules[module]}.{leaf}" if module in modules else None

    return rename(state_dict, foreign_name, arch)


def _module_names(arch: Architecture) -> dict[str, str]:
    """For each of our modules with weights, the one of timm."""
    blocks = [
        (name, block)
        for name, block, channels in list(arch.named_blocks())[1:-1]
        if not (isinstance(block, SkipSpec) and block.is_identity(channels))
    ]
    stages = itertools.groupby(blocks, key=lambda named: named[0].split(".")[0])
    names, number = dict(_OUTSIDE), 0
    for number, (_, stage) in enumerate(stages, start=1):
        for b, (name, block) in enumerate(stage):
            for own, theirs in _names_inside(block).items():
                names[f"{name}.{own}"] = f"blocks.{number - 1}.{b}.{theirs}"
    if not isinstance(arch.head, PooledHeadSpec):
        return names | _HEAD
    # The head's first convolution is a block of timm, in a stage behind the others.
    return names | {
        "head.expand.conv": f"blocks.{number}.0.conv",
        "head.expand.bn": f"blocks.{number}.0.bn1",
        "head.widen": "conv_head",
    }


def _names_inside(block: BlockSpec) -> dict[str, str]:
    if isinstance(block, MBConvSpec):
        return _INVERTED_RESIDUAL if block.expands else _DEPTHWISE_SEPARABLE
    return _CONV if isinstance(block, (ConvSpec, SkipSpec)) else {}
