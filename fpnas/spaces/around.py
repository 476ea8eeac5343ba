"""What surrounds an architecture: groups of one block each, which may shrink or go."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fpnas.archs import Architecture
from fpnas.blocks import BlockSpec, MBConvSpec, block_name, round_channels
from fpnas.errors import ConfigError
from fpnas.spaces.block_group import BlockGroup

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cuts:
    """What may become of the blocks of an architecture.

    Attributes:
        expansions: inner channels of a block, shares of what they are.
        widths: channels between blocks, shares of what they are; blocks with a shortcut follow the
            block in front of them. ``(1,)``: they stay.
        smallest_kernel: depthwise kernels may shrink to this side, px, in steps of two.
        skips: blocks with a shortcut may go.

    Channels are multiples of 8, at least 8. Raises ConfigError on shares that are not between 0
    (excluded) and 1, or lack the 1.
    """

    expansions: Sequence[float] = (1 / 4, 1 / 3, 1 / 2, 2 / 3, 1)
    widths: Sequence[float] = (1 / 2, 3 / 4, 1)
    smallest_kernel: int = 3
    skips: bool = True

    def __post_init__(self) -> None:
        for name, shares in (("expansions", self.expansions), ("widths", self.widths)):
            if 1 not in shares or not all(0 < share <= 1 for share in shares):
                raise ConfigError(
                    f"Cuts.{name} are shares above 0, at most 1, with 1 among them; found {shares}."
                )
        if self.smallest_kernel < 1 or self.smallest_kernel % 2 == 0:
            raise ConfigError(
                f"Cuts.smallest_kernel is an odd number of px, found {self.smallest_kernel}."
            )


DEFAULT_CUTS = Cuts()


def groups_around(arch: Architecture, cuts: Cuts = DEFAULT_CUTS) -> list[BlockGroup]:
    """A group for each block of ``arch``; the largest choice of all is ``arch`` itself.

    Activation, attention and everything else that is not in ``cuts`` stay as they are; so do
    blocks of other types than MBConv. The log lists the blocks that stay whole.

    Raises ConfigError if nothing can be cut, or for images of other than 3 channels.
    """
    if arch.in_channels != 3:
        raise ConfigError(
            f"A search needs images of 3 channels; architecture '{arch.name}' takes "
            f"{arch.in_channels}."
        )
    groups, whole = [], []
    for name, block, in_channels in arch.named_blocks():
        if name in ("stem", "head"):
            continue
        groups.append(_group(block, in_channels, cuts))
        if all(len(values) == 1 for values in groups[-1].variables.values()):
            whole.append(f"{name} ({block_name(block)})")
    if len(whole) == len(groups):
        raise ConfigError(
            f"There is no space around architecture '{arch.name}': none of its {len(groups)} "
            "blocks can be cut. Blocks that can: MBConv with an expansion above 1, a kernel above "
            f"{cuts.smallest_kernel} px, or a shortcut."
        )
    if whole:
        logger.info("Around '%s' these blocks stay whole: %s", arch.name, ", ".join(whole))
    return groups


def _group(block: BlockSpec, in_channels: int, cuts: Cuts) -> BlockGroup:
    """The block group of a single block."""
    if isinstance(block, MBConvSpec):
        return _mbconv_group(block, in_channels, cuts)
    if block.keeps_shape(in_channels) and block_name(block) == "Skip":
        return BlockGroup({"kernel": (0,)})  # of an MBConv that was skipped: it hands on what comes
    return BlockGroup(
        {"channels": (block.channels,)},
        stride=block.stride,
        block=block_name(block),
        constants=_constants(block, ("channels",)),
    )


def _mbconv_group(block: MBConvSpec, in_channels: int, cuts: Cuts) -> BlockGroup:
    follows = block.keeps_shape(in_channels)
    kernels = range(min(cuts.smallest_kernel, block.kernel), block.kernel + 1, 2)
    skip = [0] if follows and cuts.skips else []
    variables: dict[str, Sequence[Any]] = {"kernel": (*skip, *kernels)}
    constants = _constants(block, ("channels", "kernel", "expansion"))
    expansions = [block.expansion]
    if block.expands:
        expansions = _expansions(block, in_channels, cuts.expansions)
        if 1 in expansions:
            constants["always_expand"] = True
    variables["expansion"] = tuple(expansions)
    if not follows:
        widths = {_share_of(block.channels, share) for share in cuts.widths}
        variables["channels"] = tuple(sorted(widths))
        if block.shortcut == "equal" and block.stride == 1:
            constants["shortcut"] = "never"  # a narrower block must not gain what it had not
    return BlockGroup(variables, stride=block.stride, constants=constants)


def _expansions(block: MBConvSpec, in_channels: int, shares: Sequence[float]) -> list[float]:
    """Expansions whose inner channels are these shares of the block's own, each number once."""
    inner = block.inner_channels(in_channels)
    smaller = {own for share in shares if (own := _share_of(inner, share)) < inner}
    return [*(own / in_channels for own in sorted(smaller)), block.expansion]


def _share_of(channels: int, share: float) -> int:
    """That share of ``channels``, a multiple of 8; all of them stay as many as they are."""
    return channels if share == 1 else min(round_channels(channels * share), channels)


def _constants(block: BlockSpec, searched: Sequence[str]) -> dict[str, Any]:
    """The fields of ``block`` that all choices share."""
    own = {field.name: getattr(block, field.name) for field in dataclasses.fields(block)}
    return {name: own[name] for name in own if name not in (*searched, "stride")}
