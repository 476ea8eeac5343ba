"""A space of tiny networks and noise to train them on."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fpnas.blocks import ConvSpec, HeadSpec
from fpnas.spaces import BlockGroup, NetworkSpace

SPACE = NetworkSpace(
    "toy",
    input_size=8,
    stem=ConvSpec(8),
    block_groups=[
        BlockGroup(
            {"kernel": (0, 3), "splits": (0, 2), "expansion": (1.5, 3.0), "channels": (8, 16)},
            repeats=2,
            stride=2,
        )
    ],
    head=HeadSpec(16, num_classes=3),
)


class Batches:
    """Noise whose label shifts its mean; batch i is a function of i."""

    def __init__(self, seed: int, bad_from: int = 10**9) -> None:
        self.seed = seed
        self.bad_from = bad_from

    def iterate(self, start_iteration: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        iteration = start_iteration
        while True:
            generator = torch.Generator().manual_seed(1000 * self.seed + iteration)
            labels = torch.randint(3, (12,), generator=generator)
            images = torch.randn(12, 3, 8, 8, generator=generator) + labels[:, None, None, None]
            yield (images if iteration < self.bad_from else images * torch.nan), labels
            iteration += 1
