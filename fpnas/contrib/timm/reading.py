"""Architectures of timm's block strings, the form in which mobile networks are published."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from fpnas.archs import Architecture
from fpnas.blocks import Attention, BlockSpec, ConvSpec, HeadSpec, MBConvSpec, PooledHeadSpec
from fpnas.errors import ConfigError
from fpnas.layers import BN_EPS

EFFICIENTNET_ATTENTION = Attention(of="input", divisor=1, act="block")

ACT_CODES = {"relu": "re", "relu6": "r6", "hswish": "hs", "swish": "sw"}
_ACTS = {code: act for act, code in ACT_CODES.items()}

# Kinds of blocks with their options. ``e`` of a ds is ignored, as by timm.
_OPTIONS = {"ds": "r k s c e se", "ir": "r k s c e se", "cn": "r k s c"}
_NEEDED = {"ds": "r k s c", "ir": "r k s c e", "cn": "r k s c"}
# Kernels of pointwise convolutions, space to depth, group size, experts: at these values no change.
_WITHOUT_EFFECT = ("a1", "p1", "d0", "gs1", "cc0")

_LARGEST_STRIDE = 32  # of the whole network; timm dilates convolutions instead of going on


def from_timm(
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
    return Architecture(name, input_size, stem, stages, head, bn_eps=bn_eps)


@dataclass
class _Reader:
    """Turns strings into blocks, one stage after the other.

    Attributes:
        act, attention, padding, divisor: see :func:`from_timm`.
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
        channels, kernel = rounded(row.whole("c"), self.divisor), row.whole("k")
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
        inner = rounded(self.channels * expansion)
        expanded = replace(block, expansion=expansion, always_expand=expansion == 1)
        if expanded.inner_channels(self.channels) == inner:
            return expanded
        ratio = plain(inner / self.channels)
        return replace(block, expansion=ratio, always_expand=ratio == 1)

    def _attended(self, row: _Row, block: MBConvSpec) -> MBConvSpec:
        """``block`` with Squeeze-Excite if its string has any."""
        ratio = row.number("se") if "se" in row.options else 0
        if ratio == 0:
            return block
        block = replace(block, splits=1, attention=replace(self.attention, ratio=ratio))
        hidden = timms_hidden_channels(block, self.channels, ratio, row.expansion)
        if hidden == hidden_channels(block, self.channels):
            return block
        base = self.channels
        if self.attention.of == "expanded":
            base = block.inner_channels(self.channels)
        return replace(block, attention=replace(self.attention, ratio=widening_ratio(hidden, base)))


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
        return plain(float(text))

    @property
    def expansion(self) -> float:
        """1 for a ds, which has none."""
        return self.number("e") if self.kind == "ir" else 1

    def fail(self, part: str, reason: str) -> NoReturn:
        raise ConfigError(f"timm's '{self.text}': '{part}' cannot be used; {reason}.")


def hidden_channels(block: MBConvSpec, in_channels: int) -> int:
    """Hidden channels of the attention of ``block``."""
    return block.attention.hidden_channels(in_channels, block.inner_channels(in_channels))


def timms_hidden_channels(
    block: MBConvSpec, in_channels: int, ratio: float, expansion: float
) -> int:
    """The same in timm, which rounds a little otherwise, for ``se`` and ``e`` of a string."""
    if block.attention.of == "input":
        ratio /= expansion  # of the inner channels nevertheless, which were rounded
    exact, divisor = block.inner_channels(in_channels) * ratio, block.attention.divisor
    return max(round(exact), 1) if divisor == 1 else rounded(exact, divisor)


def widening_ratio(hidden: int, base: float) -> float:
    """``hidden`` over ``base``, a little more so that neither cutting nor rounding moves it."""
    return (hidden + 0.25) / base


def rounded(channels: float, divisor: int = 8) -> int:
    """timm's rounding: to the nearest multiple, one more where that loses over 10 %."""
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest


def plain(number: float) -> float:
    """Whole numbers as int, which is how they are written."""
    return int(number) if number == int(number) else number
