"""Checkpoints of FBNetV2 in the layout of facebookresearch/mobile-vision.

Their network is a ``backbone`` with ``stages``, and a ``head`` that pools and classifies. The block
number B of stage S is called ``xifS_B``, both counted from 0; stage 0 is the stem, and the last
stage is the pooled part of our head. Inside a block stand

- ``conv``, ``bn`` directly for a plain convolution (the stem);
- ``pw``, ``dw`` and ``pwl``, each with ``conv`` and ``bn``, for an inverted residual: our expand,
  depthwise and project; ``pw`` is absent where it would not widen;
- ``se.se.0.conv`` and ``se.se.1`` for the two layers of Squeeze-Excite;
- ``conv.conv``, ``conv.bn`` for a skip that has to change shape;
- ``pw`` and ``pwl.conv`` (without BatchNorm) around the pooling of the last stage.

The stem's convolution has a bias although a BatchNorm follows; it moves into that BatchNorm's mean,
which changes nothing. The classifier ``head.conv`` is a 1x1 convolution. The files wrap all this in
a dict, with a moving average under ``model_ema`` where there is one, and names may begin with
``module.``.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from fpnas.archs import Architecture
from fpnas.blocks import SkipSpec
from fpnas.model_zoo.importing.mapping import rename

_IN_MBCONV = {
    "expand.conv": "pw.conv",
    "expand.bn": "pw.bn",
    "depthwise.conv": "dw.conv",
    "depthwise.bn": "dw.bn",
    "attention.fc1": "se.se.0.conv",
    "attention.fc2": "se.se.1",
    "project.conv": "pwl.conv",
    "project.bn": "pwl.bn",
}
_IN_HEAD = {"expand.conv": "pw.conv", "expand.bn": "pw.bn", "widen": "pwl.conv"}


def from_mobile_vision(state_dict: Mapping[str, Tensor], arch: Architecture) -> dict[str, Tensor]:
    """Our weights of ``arch``, a FBNetV2. Raises CheckpointError if they do not fit."""
    skips = {name for name, spec, _ in arch.named_blocks() if isinstance(spec, SkipSpec)}
    last_stage = len(arch.stages) + 1

    def foreign_name(name: str) -> str | None:
        module, _, leaf = name.rpartition(".")
        theirs = _module_name(module, skips, last_stage)
        return None if theirs is None else f"{theirs}.{leaf}"

    return rename(_without_idle_biases(state_dict), foreign_name, arch)


def _without_idle_biases(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights with every bias in front of a BatchNorm taken off that BatchNorm's mean."""
    weights = dict(state_dict)
    for name in state_dict:
        mean = f"{name.removesuffix('conv.bias')}bn.running_mean"
        if name.endswith(".conv.bias") and mean in weights:
            weights[mean] = weights[mean] - weights.pop(name)
    return weights


def _module_name(module: str, skips: set[str], last_stage: int) -> str | None:
    place, _, part = module.partition(".")
    if module == "head.fc":
        return "head.conv"
    if place == "head":
        theirs = _IN_HEAD.get(part)
        return theirs and f"backbone.stages.xif{last_stage}_0.{theirs}"
    if place == "stem":
        return f"backbone.stages.xif0_0.{part}"
    index, _, part = part.partition(".")
    theirs = f"conv.{part}" if f"{place}.{index}" in skips else _IN_MBCONV.get(part)
    return theirs and f"backbone.stages.xif{place.removeprefix('stage')}_{index}.{theirs}"
