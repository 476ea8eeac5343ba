"""timm's block strings of architectures."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import NoReturn, TypeVar

from fpnas.archs import Architecture
from fpnas.blocks import (
    PAPER_ATTENTION,
    Attention,
    BlockSpec,
    ConvSpec,
    MBConvSpec,
    PooledHeadSpec,
    SkipSpec,
)
from fpnas.contrib.timm.reading import (
    ACT_CODES,
    EFFICIENTNET_ATTENTION,
    from_timm,
    hidden_channels,
    plain,
    rounded,
    timms_hidden_channels,
    widening_ratio,
)
from fpnas.errors import ConfigError

_Convention = TypeVar("_Convention", Attention, str)


def to_timm(arch: Architecture, divisor: int = 8) -> list[list[str]]:
    """timm's strings of the blocks; where a string names no activation, it is the stem's.

    With the stem, the head and the conventions of ``arch``, :func:`from_timm` makes the same
    network of them. A skip that is the identity is left out, another one becomes the convolution
    that it is. ``divisor`` as in :func:`from_timm`.

    Raises ConfigError, which names the block, on what timm's strings cannot express.
    """
    act = getattr(arch.stem, "act", "relu")
    rows = [
        _WrittenBlock.of(name, block, channels, act)
        for name, block, channels in list(arch.named_blocks())[1:-1]
        if not (isinstance(block, SkipSpec) and block.is_identity(channels))
    ]
    stages = itertools.groupby(rows, key=lambda row: row.name.split(".")[0])
    arch_def = [_joined(list(stage)) for _, stage in stages]
    if isinstance(arch.head, PooledHeadSpec):
        inner = arch.head.inner_channels(arch.blocks[-1].channels)
        conv = ConvSpec(inner, 1, 1, arch.head.act)
        arch_def.append([_WrittenBlock.of("head", conv, 0, act).text(1)])
    read = from_timm(
        arch_def,
        name=arch.name,
        act=act,
        stem=arch.stem,
        head=arch.head,
        attention=_only([row.conventions for row in rows], EFFICIENTNET_ATTENTION),
        padding=_only([row.padding for row in rows], "symmetric"),
        divisor=divisor,
    )
    for row, made in zip(rows, read.blocks, strict=True):
        if _network(row.block, row.in_channels) != _network(made, row.in_channels):
            row.fail(f"of '{row.text(1)}' timm makes {made}")
    return arch_def


@dataclass(frozen=True)
class _WrittenBlock:
    """A block in its place, as a string with a free number of repeats."""

    name: str
    block: BlockSpec
    in_channels: int
    kind: str
    tail: str

    @classmethod
    def of(cls, name: str, block: BlockSpec, in_channels: int, act: str) -> _WrittenBlock:
        """``act``: the activation that is not written."""
        if isinstance(block, SkipSpec):
            block = ConvSpec(block.channels, 1, block.stride, "relu")
        row = cls(name, block, in_channels, "cn", f"_c{block.channels}")
        if isinstance(block, MBConvSpec):
            if block.splits > 1:
                row.fail("timm has no Split-Attention")
            keeps_shape = block.keeps_shape(in_channels)
            if block.shortcut != "equal" and (block.shortcut == "always") != keeps_shape:
                row.fail("timm has a shortcut only where the shape stays")
            kind, ratio = ("ir" if block.expands else "ds"), _expansion(block, in_channels)
            expansion = f"_e{ratio!r}" if block.expands else ""
            attention = f"_se{_se_ratio(block, in_channels, ratio)!r}" if block.splits else ""
            row = replace(row, kind=kind, tail=f"{expansion}{row.tail}{attention}")
        elif not isinstance(block, ConvSpec):
            row.fail("known are MBConv, Conv and Skip")
        code = "" if block.act == act else f"_n{ACT_CODES[block.act]}"
        return replace(row, tail=row.tail + code)

    @property
    def conventions(self) -> Attention | None:
        """Of the attention, whose ratio stands in the string; None without any."""
        has_attention = isinstance(self.block, MBConvSpec) and self.block.splits
        return replace(self.block.attention, ratio=PAPER_ATTENTION.ratio) if has_attention else None

    @property
    def padding(self) -> str | None:
        """None where it makes no difference."""
        return self.block.padding if self.block.stride > 1 and self.block.kernel > 1 else None

    def text(self, repeats: int, stride: int | None = None) -> str:
        stride = self.block.stride if stride is None else stride
        return f"{self.kind}_r{repeats}_k{self.block.kernel}_s{stride}{self.tail}"

    def fail(self, reason: str) -> NoReturn:
        raise ConfigError(f"timm's strings cannot express {self.name}, {self.block}: {reason}.")


def _joined(rows: list[_WrittenBlock]) -> list[str]:
    """The strings of a stage, with equal blocks as repeats of the first."""
    strings = []
    while rows:
        first, alike = rows[0], 1
        while alike < len(rows) and rows[alike].text(1) == first.text(1, stride=1):
            alike += 1
        strings.append(first.text(alike))
        rows = rows[alike:]
    return strings


def _only(values: list[_Convention | None], default: _Convention) -> _Convention:
    """The one value beside None, since a model of timm has one for all its blocks."""
    distinct = list(dict.fromkeys(value for value in values if value is not None))
    if len(distinct) > 1:
        raise ConfigError(f"timm has one convention for all blocks, found {distinct}.")
    return distinct[0] if distinct else default


def _network(block: BlockSpec, in_channels: int) -> BlockSpec:
    """The same for blocks that compute the same on ``in_channels`` channels."""
    if block.kernel == 1 or block.stride == 1:
        block = replace(block, padding="symmetric")
    if isinstance(block, MBConvSpec):
        inner, hidden = block.inner_channels(in_channels), hidden_channels(block, in_channels)
        block = replace(
            block,
            expansion=inner,
            always_expand=block.expands,
            shortcut="equal",  # equal here: a _WrittenBlock has no other
            attention=replace(block.attention, ratio=hidden) if block.splits else PAPER_ATTENTION,
        )
    return block


def _expansion(block: MBConvSpec, in_channels: int) -> float:
    """For ``e``: as it is, or the ratio of channels where timm would round otherwise."""
    inner = block.inner_channels(in_channels)
    agrees = rounded(in_channels * block.expansion) == inner
    return plain(block.expansion if agrees else inner / in_channels)


def _se_ratio(block: MBConvSpec, in_channels: int, expansion: float) -> float:
    """For ``se``, likewise."""
    hidden, ratio = hidden_channels(block, in_channels), block.attention.ratio
    if timms_hidden_channels(block, in_channels, ratio, expansion) == hidden:
        return plain(ratio)
    base = block.inner_channels(in_channels)
    return widening_ratio(hidden, base / expansion if block.attention.of == "input" else base)
