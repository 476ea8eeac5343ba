"""Block types: how one block of an architecture is described, built and costed."""

from fpnas.blocks.conv import ConvSpec, HeadSpec, PooledHeadSpec, SkipSpec
from fpnas.blocks.mbconv import PAPER_ATTENTION, SHORTCUTS, Attention, MBConv, MBConvSpec
from fpnas.blocks.spec import (
    BLOCK_REGISTRY,
    BlockShape,
    BlockSpec,
    Cost,
    block_name,
    output_size,
    round_channels,
    spec_from_dict,
    spec_to_dict,
)

__all__ = [
    "BLOCK_REGISTRY",
    "PAPER_ATTENTION",
    "SHORTCUTS",
    "Attention",
    "BlockShape",
    "BlockSpec",
    "ConvSpec",
    "Cost",
    "HeadSpec",
    "MBConv",
    "MBConvSpec",
    "PooledHeadSpec",
    "SkipSpec",
    "block_name",
    "output_size",
    "round_channels",
    "spec_from_dict",
    "spec_to_dict",
]
