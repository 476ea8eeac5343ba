"""From a config to a network, with the weights of another task where it is given any.

Only what must differ may differ - other classes, other input channels, no head - and everything
that is not taken over as it is gets listed.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from fpnas.archs import Architecture, get_arch
from fpnas.config import CfgNode
from fpnas.config.checks import check_value
from fpnas.errors import ConfigError
from fpnas.modeling.backbone import SearchedBackbone
from fpnas.modeling.norm import convert_norm, freeze
from fpnas.modeling.searched_net import SearchedNet
from fpnas.utils import comm
from fpnas.utils.checkpoint import copy_weights, read_weights

logger = logging.getLogger(__name__)


def build_model(cfg: CfgNode) -> SearchedNet | SearchedBackbone:
    """The network of ``cfg.MODEL``, with the weights of ``MODEL.WEIGHTS`` if there are any.

    A classifier, or with ``MODEL.OUT_FEATURES`` a backbone, which reads no key about classes.
    ``MODEL.NUM_CLASSES = 0`` and ``MODEL.IN_CHANNELS = 0`` keep the architecture's own numbers, and
    the weights must have these, too. A number that is given may differ from that of the weights:
    the classifier is then fresh, the stem adapted, and a warning lists what was dropped.

    Raises ConfigError without ``MODEL.ARCH`` and on unusable keys, UnknownNameError on an unknown
    architecture, CheckpointError on weights that do not fit otherwise.
    """
    model = _build(cfg)
    if cfg.MODEL.WEIGHTS:
        notes = load_pretrained(
            model,
            cfg.MODEL.WEIGHTS,
            new_classes=cfg.MODEL.NUM_CLASSES > 0,
            new_input=cfg.MODEL.IN_CHANNELS > 0,
        )
        for note in notes:
            logger.warning(note)
    return model


def fresh_classifier(cfg: CfgNode, arch: Architecture | None = None) -> SearchedNet:
    """The classifier of ``cfg.MODEL`` for RGB images, without the weights of ``MODEL.WEIGHTS``.

    For those who load weights in their own way: a training may adapt them, an evaluation must not.
    ``arch``, of weights that know their own, stands in for MODEL.ARCH.

    Raises as :func:`build_model`, and ConfigError on keys that make something else of the network.
    """
    check_value(
        "MODEL.OUT_FEATURES", cfg.MODEL.OUT_FEATURES, not cfg.MODEL.OUT_FEATURES,
        "() for a classifier; a backbone comes from build_model",
    )  # fmt: skip
    model = _build(cfg, arch)
    check_value(
        "MODEL.IN_CHANNELS", model.arch.in_channels, model.arch.in_channels == 3,
        "3, the channels of the images of every data set",
    )  # fmt: skip
    if cfg.MODEL.NORM == "SyncBN" and comm.get_world_size() > 1:
        device = comm.get_device().type
        check_value("MODEL.NORM", "SyncBN", device != "cpu", "'BN' or 'FrozenBN' on CPUs")
    return model


def _build(cfg: CfgNode, arch: Architecture | None = None) -> SearchedNet | SearchedBackbone:
    """The network with fresh weights."""
    keys = cfg.MODEL
    if arch is None and not keys.ARCH:
        raise ConfigError(
            "MODEL.ARCH is empty; give a name from `fpnas zoo list` or an architecture's YAML file."
        )
    for key in ("NUM_CLASSES", "IN_CHANNELS", "OUTPUT_STRIDE"):
        check_value(f"MODEL.{key}", keys[key], keys[key] >= 0, "0 or more")
    arch = get_arch(keys.ARCH) if arch is None else arch
    if keys.NUM_CLASSES:
        arch = arch.with_num_classes(keys.NUM_CLASSES)
    if keys.IN_CHANNELS:
        arch = arch.with_in_channels(keys.IN_CHANNELS)
    model = SearchedNet(arch, dropout=keys.DROPOUT, drop_path=keys.DROP_PATH)
    if keys.OUT_FEATURES:
        model = SearchedBackbone(model, keys.OUT_FEATURES, keys.OUTPUT_STRIDE)
    elif keys.OUTPUT_STRIDE:
        raise ConfigError(
            f"MODEL.OUTPUT_STRIDE is {keys.OUTPUT_STRIDE}, but MODEL.OUT_FEATURES is empty: only "
            "backbones are dilated. Valid for a classifier: 0."
        )
    freeze(model, keys.FREEZE_STAGES)
    convert_norm(model, keys.NORM)
    return model


def load_pretrained(
    model: nn.Module, path: str | Path, *, new_classes: bool = False, new_input: bool = False
) -> list[str]:
    """Load a file, or ``zoo://name``, into a classifier or a backbone of the same architecture.

    Args:
        model: a SearchedNet or a SearchedBackbone. Stages and the head that a backbone lacks are
            dropped from the weights.
        path: of the weights.
        new_classes: with another number of classes than the model's, leave its classifier fresh.
        new_input: with another number of input channels than the model's, adapt the weights that
            meet them (see :func:`adapt_channels`).

    Returns:
        what was dropped, left fresh or adapted, a sentence each. For the caller to log.

    Raises CheckpointError if the file cannot be read or anything else does not fit. The model is
    then as it was.
    """
    weights = read_weights(path)
    notes = _drop_absent(weights, model)
    if new_classes:
        notes += _keep_fresh_classifier(weights, model)
    if new_input:
        notes += _adapt_input(weights, model)
    copy_weights(model, weights, str(path))
    return [f"{path}: {note}" for note in notes]


def adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """Weights ``[out, in, k, k]`` for ``channels`` input channels, as timm adapts them.

    The sum for one channel; otherwise repeated in order and scaled by ``in / channels``. So an
    image whose channels are all equal gives what it gave (exactly so for 1 and multiples of in).
    """
    weight = weight.float()
    if channels == 1:
        return weight.sum(1, keepdim=True)
    theirs = weight.shape[1]
    repeated = weight.repeat(1, math.ceil(channels / theirs), 1, 1)[:, :channels]
    return repeated * (theirs / channels)


def classifier_weights(arch: Architecture) -> list[str]:
    """Names of the weights whose shape depends on the number of classes."""
    name, head, channels = list(arch.named_blocks())[-1]
    more = dataclasses.replace(head, num_classes=head.num_classes + 1)
    with torch.device("meta"):
        return _differing(name, head.build(channels), more.build(channels))


def input_weights(arch: Architecture) -> list[str]:
    """Names of the weights whose shape depends on the number of input channels."""
    name, stem, channels = next(arch.named_blocks())
    with torch.device("meta"):
        return _differing(name, stem.build(channels), stem.build(channels + 1))


def _differing(part: str, first: nn.Module, second: nn.Module) -> list[str]:
    others = second.state_dict()
    return [
        f"{part}.{name}"
        for name, value in first.state_dict().items()
        if name in others and value.shape != others[name].shape
    ]


def _drop_absent(weights: dict[str, Tensor], model: nn.Module) -> list[str]:
    """Drop the parts of the architecture that ``model`` does not have."""
    parts = dict.fromkeys(name.split(".")[0] for name, _, _ in model.arch.named_blocks())
    present, dropped = dict(model.named_children()), []
    for part in parts:
        if part in present:
            continue
        names = [name for name in weights if name.startswith(f"{part}.")]
        for name in names:
            del weights[name]
        dropped += [f"{part} ({len(names)} weights)"] if names else []
    return [f"dropped what the backbone does not have: {', '.join(dropped)}"] if dropped else []


def _keep_fresh_classifier(weights: dict[str, Tensor], model: nn.Module) -> list[str]:
    """Put the model's own classifier in the place of one for another number of classes."""
    own = model.state_dict()
    theirs = {
        name: value
        for name in classifier_weights(model.arch)
        if name in own and isinstance(value := weights.get(name), Tensor)
        if value.shape != own[name].shape
    }
    if not theirs or any(value.shape[1:] != own[name].shape[1:] for name, value in theirs.items()):
        return []  # what differs in more than the classes is refused when it is copied
    weights.update({name: own[name] for name in theirs})
    listed = ", ".join(f"{name} {list(value.shape)}" for name, value in theirs.items())
    return [f"dropped for a fresh classifier of {model.arch.num_classes} classes: {listed}"]


def _adapt_input(weights: dict[str, Tensor], model: nn.Module) -> list[str]:
    """Adapt the stem's convolution to the model's number of input channels."""
    own, notes = model.state_dict(), []
    for name in input_weights(model.arch):
        theirs, ours = weights.get(name), own[name]
        if not isinstance(theirs, Tensor) or theirs.dim() != 4 or theirs.shape == ours.shape:
            continue
        if (theirs.shape[0], *theirs.shape[2:]) == (ours.shape[0], *ours.shape[2:]):
            weights[name] = adapt_channels(theirs, ours.shape[1])
            notes.append(f"adapted {name} from {theirs.shape[1]} to {ours.shape[1]} input channels")
    return notes
