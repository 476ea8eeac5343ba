"""Architectures as timm's block strings, the form in which mobile networks are published."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn, TypeVar

from fpnas.blocks import (
    PAPER_ATTENTION,
    Attention,
    BlockSpec,
    ConvSpec,
    HeadSpec,
    MBConvSpec,
    PooledHeadSpec,
    SkipSpec,
)
from fpnas.errors import ConfigError
from fpnas.layers import BN_EPS

if TYPE_CHECKING:
    from fpnas.archs.architecture import Architecture

EFFICIENTNET_ATTENTION = Attention(of="input", divisor=1, act="block")

_ACT_CODES = {"relu": "re", "relu6": "r6", "hswish": "hs", "swish": "sw"}
_ACTS = {code: act for act, code in _ACT_CODES.items()}

# Kinds of blocks with their options. ``e`` of a ds is ignored, as by timm.
_OPTIONS = {"ds": "r k s c e se", "ir": "r k s c e se", "cn": "r k s c"}
_NEEDED = {"ds": "r k s c", "ir": "r k s c e", "cn": "r k s c"}
# Kernels of pointwise convolutions, space to depth, group size, experts: at these values no change.
_WITHOUT_EFFECT = ("a1", "p1", "d0", "gs1", "cc0")

_Convention = TypeVar("_Convention", Attention, str)

_LARGEST_STRIDE = 32  # of the whole network; timm dilates convolutions instead of going on


class TimmStrings:
    """The part of :class:`Architecture` that reads and writes timm's strings."""

    @classmethod
    def from_timm(
        cls,
        arch_def: Sequence[Sequence[str]],
        *,
        name: str,
        input_size: int = 224,
        act: str = "relu",
        stem: BlockSpec | None = None,
        head: BlockSpec | None = None,
        attention: Attention = EFFICIENTNET_ATTENTION,
        padding: str = "symmetric",
        bn_eps: float = BN_EPS,
        divisor: int = 8,
    ) -> Architecture:
        """The architecture of timm's ``arch_def``, such as ``[["ds_r1_k3_s1_c16"], [...], ...]``.

        The strings describe the blocks; the rest stands in the arguments of timm's models.

        Args:
            arch_def: for each stage the strings of its blocks.
            name: of the architecture.
            input_size: px.
            act: activation where a string names none.
            stem: the first block; None: 3x3 convolution of stride 2 to 32 channels.
            head: the last block; None: convolution to 1280 channels, pool, 1000 classes. A
                PooledHead takes the last string, ``cn_r1_k1_s1_c...``, as its first convolution.
            attention: conventions of Squeeze-Excite; each string gives its ratio. The default is
                that of EfficientNet; MobileNetV3 has ``Attention(gate="hsigmoid")``.
            padding: of all convolutions, "symmetric" or "same".
            bn_eps: of all BatchNorms.
            divisor: output channels are rounded to a multiple of this, as timm does; 1 for a model
                of timm that is built with ``round_chs_fn=int``.

        Raises ConfigError, which names the string and its part, on what our blocks cannot express.
        """
        stem = stem or ConvSpec(32, 3, 2, act, padding)
        head = head or HeadSpec(1280, 1000, act)
        reader = _Reader(act, attention, padding, divisor, stem.channels, stem.stride)
        has_head_conv = isinstance(head, PooledHeadSpec) and len(arch_def) > 0
        body = arch_def[:-1] if has_head_conv else arch_def
        stages = tuple(reader.stage(strings) for strings in body)
        if has_head_conv:
            reader.read_head_conv(arch_def[-1], head)
        return cls(name, input_size, stem, stages, head, bn_eps=bn_eps)

    def to_timm(self: Architecture, divisor: int = 8) -> list[list[str]]:
        """timm's strings of the blocks; where a string names no activation, it is the stem's.

        With the stem, the head and the conventions of this architecture, ``from_timm`` makes the
        same network of them. A skip that is the identity is left out, another one becomes the
        convolution that it is.

        Args:
            divisor: as in :meth:`from_timm`.

        Raises ConfigError, which names the block, on what timm's strings cannot express.
        """
        act = getattr(self.stem, "act", "relu")
        rows = [
            _WrittenBlock.of(name, block, channels, act)
            for name, block, channels in list(self.named_blocks())[1:-1]
            if not (isinstance(block, SkipSpec) and block.is_identity(channels))
        ]
        stages = itertools.groupby(rows, key=lambda row: row.name.split(".")[0])
        arch_def = [_joined(list(stage)) for _, stage in stages]
        if isinstance(self.head, PooledHeadSpec):
            inner = self.head.inner_channels(self.blocks[-1].channels)
            conv = ConvSpec(inner, 1, 1, self.head.act)
            arch_def.append([_WrittenBlock.of("head", conv, 0, act).text(1)])
        read = self.from_timm(
            arch_def,
            name=self.name,
            act=act,
            stem=self.stem,
            head=self.head,
            attention=_only([row.conventions for row in rows], EFFICIENTNET_ATTENTION),
            padding=_only([row.padding for row in rows], "symmetric"),
            divisor=divisor,
        )
        for row, made in zip(rows, read.blocks, strict=True):
            if _network(row.block, row.in_channels) != _network(made, row.in_channels):
                row.fail(f"of '{row.text(1)}' timm makes {made}")
        return arch_def


@dataclass
class _Reader:
    """Turns strings into blocks, one stage after the other.

    Attributes:
        act, attention, padding, divisor: see :meth:`TimmStrings.from_timm`.
        channels: that enter the next block.
        stride: rows of the image per row that enters the next block.
    """

    act: str
    attention: Attention
    padding: str
    divisor: int
    channels: int
    stride: int

    def stage(self, strings: Sequence[str]) -> tuple[BlockSpec, ...]:
        if isinstance(strings, str) or not all(isinstance(text, str) for text in strings):
            raise ConfigError(f"A stage of an arch_def is a list of strings, found {strings!r}.")
        blocks: list[BlockSpec] = []
        for row in map(_Row.parse, strings):
            for _ in range(row.whole("r")):
                # timm gives a stride to the first block of a stage only, whatever the others say.
                blocks.append(self._block(row, 1 if blocks else row.whole("s")))
        return tuple(blocks)

    def read_head_conv(self, strings: Sequence[str], head: PooledHeadSpec) -> None:
        expected = ConvSpec(head.inner_channels(self.channels), 1, 1, head.act, self.padding)
        if self.stage(strings) != (expected,):
            raise ConfigError(
                f"Before a PooledHead the last stage of an arch_def is its first convolution, here "
                f"'cn_r1_k1_s1_c{expected.channels}' with activation {head.act}; found {strings}."
            )

    def _block(self, row: _Row, stride: int) -> BlockSpec:
        self.stride *= stride
        if stride > 2 or (stride == 2 and self.stride > _LARGEST_STRIDE):
            row.fail(f"s{stride}", f"strides are 1 or 2, and {_LARGEST_STRIDE} in all")
        channels, kernel = _rounded(row.whole("c"), self.divisor), row.whole("k")
        is_conv = row.kind == "cn"
        # Only an MBConv has a shortcut, and always where it can have one.
        if stride == 1 and channels == self.channels and row.skip == ("noskip", "skip")[is_conv]:
            row.fail(row.skip, "a shortcut depends on stride and channels alone")
        act = _ACTS[row.act] if row.act else self.act
        try:
            if is_conv:
                block: BlockSpec = ConvSpec(channels, kernel, stride, act, self.padding)
            else:
                block = MBConvSpec(channels, stride, kernel, 1, act, padding=self.padding)
                block = self._attended(row, self._expanded(row, block))
        except ConfigError as error:
            raise ConfigError(f"timm's '{row.text}': {error}") from None
        self.channels = channels
        return block

    def _expanded(self, row: _Row, block: MBConvSpec) -> MBConvSpec:
        """``block`` with timm's inner channels, which are rounded a little otherwise than ours."""
        if row.kind == "ds":
            return block
        expansion = row.expansion
        inner = _rounded(self.channels * expansion)
        expanded = replace(block, expansion=expansion, always_expand=expansion == 1)
        if expanded.inner_channels(self.channels) == inner:
            return expanded
        ratio = _plain(inner / self.channels)
        return replace(block, expansion=ratio, always_expand=ratio == 1)

    def _attended(self, row: _Row, block: MBConvSpec) -> MBConvSpec:
        """``block`` with Squeeze-Excite if its string has any."""
        ratio = row.number("se") if "se" in row.options else 0
        if ratio == 0:
            return block
        block = replace(block, splits=1, attention=replace(self.attention, ratio=ratio))
        hidden = _timms_hidden(block, self.channels, ratio, row.expansion)
        if hidden == _hidden(block, self.channels):
            return block
        base = self.channels
        if self.attention.of == "expanded":
            base = block.inner_channels(self.channels)
        return replace(block, attention=replace(self.attention, ratio=_ratio(hidden, base)))


@dataclass(frozen=True)
class _Row:
    """One string in parts: ``ir_r2_k5_s2_e3_c40_se0.25_nre_noskip``."""

    text: str
    kind: str
    options: dict[str, str]
    act: str = ""
    skip: str = ""

    @classmethod
    def parse(cls, text: str) -> _Row:
        kind, *parts = text.split("_")
        row = cls(text, kind, {})
        if kind not in _OPTIONS:
            row.fail(kind, f"the kinds of block are {', '.join(_OPTIONS)}")
        for part in parts:
            option = re.fullmatch(r"([a-z]+)(\d.*)", part)
            if part in ("skip", "noskip"):
                row = replace(row, skip=part)
            elif part[:1] == "n" and part[1:] in _ACTS:
                row = replace(row, act=part[1:])
            elif option and option[1] in _OPTIONS[kind].split():
                row.options[option[1]] = option[2]
            elif part not in _WITHOUT_EFFECT:
                acts = " ".join(f"n{code}" for code in _ACTS)
                row.fail(part, f"'{kind}' has {_OPTIONS[kind]}, each with a number, {acts} noskip")
        for key in _NEEDED[kind].split():
            if key not in row.options:
                row.fail(key, "it is missing")
        for key in row.options:
            row.number(key)
        return row

    def whole(self, key: str) -> int:
        text = self.options[key]
        if not text.isdecimal() or int(text) < 1:
            self.fail(key + text, "this is a whole number of at least 1")
        return int(text)

    def number(self, key: str) -> float:
        text = self.options[key]
        if not re.fullmatch(r"\d+(\.\d*)?(e-?\d{1,2})?", text):
            self.fail(key + text, "this is a number")
        return _plain(float(text))

    @property
    def expansion(self) -> float:
        """1 for a ds, which has none."""
        return self.number("e") if self.kind == "ir" else 1

    def fail(self, part: str, reason: str) -> NoReturn:
        raise ConfigError(f"timm's '{self.text}': '{part}' cannot be used; {reason}.")


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
            if block.shortcut == "always" and not block.keeps_shape(in_channels):
                row.fail("timm has a shortcut only where the shape stays")
            kind, ratio = ("ir" if block.expands else "ds"), _expansion(block, in_channels)
            expansion = f"_e{ratio!r}" if block.expands else ""
            attention = f"_se{_se_ratio(block, in_channels, ratio)!r}" if block.splits else ""
            row = replace(row, kind=kind, tail=f"{expansion}{row.tail}{attention}")
        elif not isinstance(block, ConvSpec):
            row.fail("known are MBConv, Conv and Skip")
        code = "" if block.act == act else f"_n{_ACT_CODES[block.act]}"
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
        inner, hidden = block.inner_channels(in_channels), _hidden(block, in_channels)
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
    agrees = _rounded(in_channels * block.expansion) == inner
    return _plain(block.expansion if agrees else inner / in_channels)


def _se_ratio(block: MBConvSpec, in_channels: int, expansion: float) -> float:
    """For ``se``, likewise."""
    hidden, ratio = _hidden(block, in_channels), block.attention.ratio
    if _timms_hidden(block, in_channels, ratio, expansion) == hidden:
        return _plain(ratio)
    base = block.inner_channels(in_channels)
    return _ratio(hidden, base / expansion if block.attention.of == "input" else base)


def _hidden(block: MBConvSpec, in_channels: int) -> int:
    """Hidden channels of the attention of ``block``."""
    return block.attention.hidden_channels(in_channels, block.inner_channels(in_channels))


def _timms_hidden(block: MBConvSpec, in_channels: int, ratio: float, expansion: float) -> int:
    """The same in timm, which rounds a little otherwise, for ``se`` and ``e`` of a string."""
    if block.attention.of == "input":
        ratio /= expansion  # of the inner channels nevertheless, which were rounded
    exact, divisor = block.inner_channels(in_channels) * ratio, block.attention.divisor
    return max(round(exact), 1) if divisor == 1 else _rounded(exact, divisor)


def _ratio(hidden: int, base: float) -> float:
    """``hidden`` over ``base``, a little more so that neither cutting nor rounding moves it."""
    return (hidden + 0.25) / base


def _rounded(channels: float, divisor: int = 8) -> int:
    """timm's rounding: to the nearest multiple, one more where that loses over 10 %."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def _plain(number: float) -> float:
    """Whole numbers as int, which is how they are written."""
    return int(number) if number == int(number) else number
