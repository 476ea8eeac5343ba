"""Layouts of other projects: their names of our weights; a state dict is renamed all or nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from fpnas.archs import Architecture
from fpnas.blocks import BlockSpec, ConvSpec, MBConvSpec, PooledHeadSpec, SkipSpec
from fpnas.errors import CheckpointError
from fpnas.modeling import SearchedNet

#: From one of our names to the foreign one; None if the other project has no such weight.
ForeignName = Callable[[str], str | None]

_COUNTER = ".num_batches_tracked"
_SHOWN = 20


def rename(
    foreign: Mapping[str, Tensor], foreign_name: ForeignName, arch: Architecture
) -> dict[str, Tensor]:
    """The weights of ``arch`` under our names, taken from ``foreign``; every one is used.

    A linear layer may be stored as a 1x1 convolution and the other way round. BatchNorm's counter
    of batches, which nothing reads here, may be missing and is then 0.

    Raises CheckpointError, which lists what is missing, left over or of another shape.
    """
    weights: dict[str, Tensor] = {}
    used, missing, reshaped = set(), [], []
    for name, own in own_weights(arch).items():
        source = foreign_name(name)
        value = None if source is None else foreign.get(source)
        if value is None and name.endswith(_COUNTER):
            weights[name] = torch.zeros((), dtype=torch.long)
        elif value is None:
            missing.append(f"{source or 'no counterpart'} (our {name})")
        elif _significant(value.shape) != _significant(own.shape):
            reshaped.append(f"{source} {tuple(value.shape)} (our {name} {tuple(own.shape)})")
        else:
            weights[name] = value.detach().reshape(own.shape).contiguous()
        used.add(source)
    left_over = [source for source in foreign if source not in used]
    problems = {"missing": missing, "of another shape": reshaped, "left over": left_over}
    if any(problems.values()):
        listed = "; ".join(_listed(kind, names) for kind, names in problems.items() if names)
        raise CheckpointError(
            f"The weights do not fit the architecture '{arch.name}'; nothing was imported. "
            f"{listed}."
        )
    return weights


def own_weights(arch: Architecture) -> dict[str, Tensor]:
    """Our names of the weights of ``arch`` with their shapes; holds no data."""
    with torch.device("meta"):
        return SearchedNet(arch).state_dict()


def _significant(shape: torch.Size) -> list[int]:
    """The shape without trailing ones: [O, I] and [O, I, 1, 1] are the same weights."""
    sizes = list(shape)
    while sizes and sizes[-1] == 1:
        sizes.pop()
    return sizes


def _listed(kind: str, names: list[str]) -> str:
    more = len(names) - _SHOWN
    shown = ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return f"{kind}: {shown}"


# efficientnet-lite --------------------------------------------------------------------------------
#
# Weights of the package efficientnet-lite-pytorch, a port of Google's TensorFlow checkpoints.
#
# Its names: ``_conv_stem``, ``_bn0``; blocks numbered through from 0 as ``_blocks.N`` with
# ``_expand_conv``/``_bn0`` (absent at expansion 1), ``_depthwise_conv``/``_bn1`` and
# ``_project_conv``/``_bn2``; ``_conv_head``, ``_bn1``, ``_fc``.

_LITE_OUTSIDE = {
    "stem.conv": "_conv_stem",
    "stem.bn": "_bn0",
    "head.conv.conv": "_conv_head",
    "head.conv.bn": "_bn1",
    "head.fc": "_fc",
}
_LITE_IN_BLOCK = {
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
        if module in _LITE_OUTSIDE:
            return f"{_LITE_OUTSIDE[module]}.{leaf}"
        stage, index, part = module.split(".", 2)
        number, theirs = numbers.get(f"{stage}.{index}"), _LITE_IN_BLOCK.get(part)
        return None if number is None or theirs is None else f"_blocks.{number}.{theirs}.{leaf}"

    return rename(state_dict, foreign_name, arch)


# mobile-vision ------------------------------------------------------------------------------------
#
# Checkpoints of FBNetV2 in the layout of facebookresearch/mobile-vision.
#
# Their network is a ``backbone`` with ``stages``, and a ``head`` that pools and classifies. Block
# number B of stage S is called ``xifS_B``, both counted from 0; stage 0 is the stem, and the last
# stage is the pooled part of our head. Inside a block stand
#
# - ``conv``, ``bn`` directly for a plain convolution (the stem);
# - ``pw``, ``dw`` and ``pwl``, each with ``conv`` and ``bn``, for an inverted residual: our expand,
#   depthwise and project; ``pw`` is absent where it would not widen;
# - ``se.se.0.conv`` and ``se.se.1`` for the two layers of Squeeze-Excite;
# - ``conv.conv``, ``conv.bn`` for a skip that has to change shape;
# - ``pw`` and ``pwl.conv`` (without BatchNorm) around the pooling of the last stage.
#
# The stem's convolution has a bias although a BatchNorm follows; it moves into that BatchNorm's
# mean, which changes nothing. The classifier ``head.conv`` is a 1x1 convolution. The files wrap all
# this in a dict, with a moving average under ``model_ema`` where there is one, and names may begin
# with ``module.``.

_VISION_IN_MBCONV = {
    "expand.conv": "pw.conv",
    "expand.bn": "pw.bn",
    "depthwise.conv": "dw.conv",
    "depthwise.bn": "dw.bn",
    "attention.fc1": "se.se.0.conv",
    "attention.fc2": "se.se.1",
    "project.conv": "pwl.conv",
    "project.bn": "pwl.bn",
}
_VISION_IN_HEAD = {"expand.conv": "pw.conv", "expand.bn": "pw.bn", "widen": "pwl.conv"}


def from_mobile_vision(state_dict: Mapping[str, Tensor], arch: Architecture) -> dict[str, Tensor]:
    """Our weights of ``arch``, a FBNetV2. Raises CheckpointError if they do not fit."""
    skips = {name for name, spec, _ in arch.named_blocks() if isinstance(spec, SkipSpec)}
    last_stage = len(arch.stages) + 1

    def foreign_name(name: str) -> str | None:
        module, _, leaf = name.rpartition(".")
        place, _, part = module.partition(".")
        if module == "head.fc":
            return f"head.conv.{leaf}"
        if place == "head":
            stage, theirs = f"{last_stage}_0", _VISION_IN_HEAD.get(part)
        elif place == "stem":
            stage, theirs = "0_0", part
        else:
            index, _, part = part.partition(".")
            is_skip = f"{place}.{index}" in skips
            theirs = f"conv.{part}" if is_skip else _VISION_IN_MBCONV.get(part)
            stage = f"{place.removeprefix('stage')}_{index}"
        return theirs and f"backbone.stages.xif{stage}.{theirs}.{leaf}"

    return rename(_without_idle_biases(state_dict), foreign_name, arch)


def _without_idle_biases(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights with every bias in front of a BatchNorm taken off that BatchNorm's mean."""
    weights = dict(state_dict)
    for name in state_dict:
        mean = f"{name.removesuffix('conv.bias')}bn.running_mean"
        if name.endswith(".conv.bias") and mean in weights:
            weights[mean] = weights[mean] - weights.pop(name)
    return weights


# timm ---------------------------------------------------------------------------------------------
#
# Weights of timm's EfficientNet and MobileNetV3, of which its other mobile networks are cases.
#
# Its names: ``conv_stem``, ``bn1``; the blocks ``blocks.STAGE.BLOCK``, both counted from 0, inside
# of which convolutions have names of their own and BatchNorms are numbered; ``conv_head``, ``bn2``
# (absent where the head pools first), ``classifier``.

_TIMM_OUTSIDE = {"stem.conv": "conv_stem", "stem.bn": "bn1", "head.fc": "classifier"}
_TIMM_HEAD = {"head.conv.conv": "conv_head", "head.conv.bn": "bn2"}
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
    modules = _timm_modules(arch)

    def foreign_name(name: str) -> str | None:
        module, _, leaf = name.rpartition(".")
        return f"{modules[module]}.{leaf}" if module in modules else None

    return rename(state_dict, foreign_name, arch)


def _timm_modules(arch: Architecture) -> dict[str, str]:
    """For each of our modules with weights, the one of timm."""
    blocks = [
        (name, block)
        for name, block, channels in list(arch.named_blocks())[1:-1]
        if not (isinstance(block, SkipSpec) and block.is_identity(channels))
    ]
    stages = itertools.groupby(blocks, key=lambda named: named[0].split(".")[0])
    names, number = dict(_TIMM_OUTSIDE), 0
    for number, (_, stage) in enumerate(stages, start=1):
        for b, (name, block) in enumerate(stage):
            for own, theirs in _timm_names_inside(block).items():
                names[f"{name}.{own}"] = f"blocks.{number - 1}.{b}.{theirs}"
    if not isinstance(arch.head, PooledHeadSpec):
        return names | _TIMM_HEAD
    # The head's first convolution is a block of timm, in a stage behind the others.
    return names | {
        "head.expand.conv": f"blocks.{number}.0.conv",
        "head.expand.bn": f"blocks.{number}.0.bn1",
        "head.widen": "conv_head",
    }


def _timm_names_inside(block: BlockSpec) -> dict[str, str]:
    if isinstance(block, MBConvSpec):
        return _INVERTED_RESIDUAL if block.expands else _DEPTHWISE_SEPARABLE
    return _CONV if isinstance(block, (ConvSpec, SkipSpec)) else {}
