"""Every choice at its own size, side by side: what DNAS computed, before FBNetV2 had masks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fpnas.blocks import BlockSpec
from fpnas.modeling import SuperNet
from fpnas.modeling.masked_supernet import Mixtures, channel_mask, named_mixtures, weighted
from fpnas.modeling.weight_store import Shape
from fpnas.spaces import BlockGroup


class AllChoicesSuperNet(SuperNet):
    """A supernet that computes every choice but the channels' at its own size, as in DNAS.

    Each combination of a block's other choices (kernel, activation, splits, expansion) is a path
    of its own, and all paths are held in memory for the backward pass. Channels are masks: a path
    for each would multiply the memory once more.

    The paths share weights as in :class:`SuperNet`, where gradients gather as well: step them
    with SharedSGD.
    """

    def forward(self, x: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Logits ``[N, num_classes]`` of the weighted sum of all paths.

        Args:
            x: ``[N, C, H, W]``.
            weights: for each of the V search variables a relaxed one-hot [values].
        """
        touched: list[tuple[str, Shape]] = []
        mixtures = named_mixtures(self.space, weights, x.device)
        x = self._path("stem", self.space.stem, x, touched)
        for s, (group, own) in enumerate(zip(self.space.block_groups, mixtures, strict=True), 1):
            for b in range(group.repeats):
                out = 0
                for block, weight in _paths(group, own, b):
                    out = out + weighted(self._path(f"stage{s}.{b}", block, x, touched), weight)
                channels = own["channels"]
                x = out * channel_mask(channels.values, channels.weights, out)
        logits = self._path("head", self.space.head, x, touched)
        if torch.is_grad_enabled():
            self.store.touch(touched)
        return logits

    def _path(
        self, name: str, block: BlockSpec, x: Tensor, touched: list[tuple[str, Shape]]
    ) -> Tensor:
        bound = self.bind_block(name, block, x.shape[1])
        touched.extend(bound.slices)
        return bound.module.train(self.training)(x)


def _paths(group: BlockGroup, own: Mixtures, number: int) -> list[tuple[BlockSpec, Tensor | int]]:
    """What block ``number`` of a group may be, apart from its channels, and with which weight.

    Choices that make no difference, such as a skip's expansion, are one path.
    """
    found: dict[BlockSpec, Tensor | int] = {}
    names = [name for name in own if name != "channels"]
    width = max(own["channels"].values)
    for parts in itertools.product(*(own[name].parts() for name in names)):
        choice = {name: value for name, (value, _) in zip(names, parts, strict=True)}
        block = group.spec({**choice, "channels": width}, number, in_channels=width)
        found[block] = found.get(block, 0) + math.prod(weight for _, weight in parts)
    return list(found.items())
