"""Weights of a network for its next task: other classes, other input channels, no head.

Only what must differ may differ, and everything that is not taken over as it is gets listed.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from fpnas.archs import Architecture
from fpnas.utils.checkpoint import copy_weights, read_weights


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
    present = dict(model.named_children())
    dropped = {}
    for part in parts:
        names = [name for name in weights if name.startswith(f"{part}.")]
        if part not in present and names:
            dropped[part] = len(names)
            for name in names:
                del weights[name]
    if not dropped:
        return []
    listed = ", ".join(f"{part} ({count} weights)" for part, count in dropped.items())
    return [f"dropped what the backbone does not have: {listed}"]


def _keep_fresh_classifier(weights: dict[str, Tensor], model: nn.Module) -> list[str]:
    """Put the model's own classifier in the place of one for another number of classes."""
    own = model.state_dict()
    theirs = {
        name: weights[name]
        for name in classifier_weights(model.arch)
        if name in own and isinstance(weights.get(name), Tensor)
    }
    theirs = {name: value for name, value in theirs.items() if value.shape != own[name].shape}
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
