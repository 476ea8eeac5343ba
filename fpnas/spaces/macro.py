"""From the rows of a macro table and a micro-architecture to block groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fpnas.blocks import ConvSpec, HeadSpec
from fpnas.spaces.block_group import BlockGroup
from fpnas.spaces.network import NetworkSpace

# Table 2. Kernel 0 is the skip. One split is Squeeze-Excite.
FBNETV2_MICRO = {"kernel": (0, 3, 5), "act": ("relu", "swish"), "splits": (0, 1)}
FP_NAS_MICRO = {"kernel": (0, 3, 5), "act": ("relu", "swish"), "splits": (0, 1, 2, 4)}

# The expansion range of Table 1, (0.75, 4.5, 0.75).
EXPANSION = (0.75, 1.5, 2.25, 3.0, 3.75, 4.5)


class Row(NamedTuple):
    """A row of a macro table. ``channels`` is (min, max, step), inclusive, as printed."""

    expansion: Sequence[float]
    channels: tuple[int, int, int]
    repeats: int
    stride: int


def block_groups(
    rows: Sequence[Row], micro: Mapping[str, Sequence[Any]], per_block: bool = False
) -> list[BlockGroup]:
    """One group a row, or with ``per_block`` one group a block."""
    groups = []
    for row in rows:
        low, high, step = row.channels
        variables = {
            **micro,
            "expansion": tuple(row.expansion),
            "channels": tuple(range(low, high + 1, step)),
        }
        if per_block:
            strides = [row.stride] + [1] * (row.repeats - 1)
            groups += [BlockGroup(variables, stride=stride) for stride in strides]
        else:
            groups.append(BlockGroup(variables, repeats=row.repeats, stride=row.stride))
    return groups


def imagenet_space(name: str, input_size: int, groups: list[BlockGroup]) -> NetworkSpace:
    """The groups between the stem and the head of Table 1.

    The table does not print their activation; Swish is our choice.
    """
    return NetworkSpace(
        name,
        input_size,
        stem=ConvSpec(channels=16, kernel=3, stride=2, act="swish"),
        block_groups=groups,
        head=HeadSpec(channels=1984, num_classes=1000, act="swish"),
    )
