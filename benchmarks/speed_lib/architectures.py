"""Architectures that the speed benchmarks measure."""

from __future__ import annotations

import dataclasses

import torch

from fpnas.archs import Architecture
from fpnas.spaces import NetworkSpace


def variant(arch: Architecture, act: str, splits: int) -> Architecture:
    """``arch`` with another activation everywhere and another attention in every block."""
    return dataclasses.replace(
        arch,
        stem=dataclasses.replace(arch.stem, act=act),
        stages=tuple(
            tuple(dataclasses.replace(block, act=act, splits=splits) for block in stage)
            for stage in arch.stages
        ),
        head=dataclasses.replace(arch.head, act=act),
    )


def nearest(
    space: NetworkSpace, act: str, splits: int, mflops: float, count: int = 1, seed: int = 0
) -> list[Architecture]:
    """Of 1000 random architectures, given that activation and attention, the nearest in FLOPs.

    None of them skips a block. FLOPs are those at the space's input size.
    """
    drawn = space.sample(1000, torch.Generator().manual_seed(seed))
    for group, columns in zip(space.block_groups, space.group_columns, strict=True):
        kernels = group.variables["kernel"]
        column = columns[list(group.variables).index("kernel")]
        without_skip = torch.tensor([i for i, kernel in enumerate(kernels) if kernel])
        drawn[:, column] = without_skip[drawn[:, column] % len(without_skip)]
    archs = [variant(space.architecture(row), act, splits) for row in drawn]
    return sorted(archs, key=lambda arch: abs(arch.flops() - 1e6 * mflops))[:count]
