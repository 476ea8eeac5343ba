"""Conventions of Squeeze-Excite and Split-Attention, in which the published families differ."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fpnas.blocks.spec import round_channels
from fpnas.errors import ConfigError, check_known
from fpnas.layers import SplitAttention, check_activation, check_gate

SOURCES = ("expanded", "input")


@dataclass(frozen=True)
class Attention:
    """How a block computes its gates. The defaults are those of the paper's search spaces.

    Attributes:
        of: the channels whose number gives the hidden layer's width: "expanded" or "input".
        ratio: width over that number, cut to a whole number ...
        divisor: ... and then rounded to a multiple of this.
        act: activation of the hidden layer; "block" is that of the block.
        gate: function that ends the gate of a single split; several splits have a softmax.
    """

    of: str = "expanded"
    ratio: float = 0.25
    divisor: int = 8
    act: str = "relu"
    gate: str = "sigmoid"

    def __post_init__(self) -> None:
        if self.act != "block":
            check_activation(self.act)
        check_gate(self.gate)
        check_known(self.of, SOURCES, f"Attention.of is {self.of!r}", ConfigError)
        if type(self.ratio) not in (int, float) or not 0 < self.ratio < math.inf:
            raise ConfigError(f"Attention.ratio must be a number above 0, found {self.ratio!r}.")
        if type(self.divisor) is not int or self.divisor < 1:
            raise ConfigError(
                f"Attention.divisor must be a whole number of at least 1, found {self.divisor!r}."
            )

    def hidden_channels(self, in_channels: int, inner: int) -> int:
        """Width of the hidden layer."""
        base = inner if self.of == "expanded" else in_channels
        return round_channels(int(base * self.ratio), self.divisor)

    def build(self, in_channels: int, inner: int, splits: int, block_act: str) -> SplitAttention:
        """The module for ``splits`` splits of ``inner`` channels each."""
        hidden = self.hidden_channels(in_channels, inner)
        act = block_act if self.act == "block" else self.act
        return SplitAttention(inner, hidden, splits, act=act, gate=self.gate)


PAPER_ATTENTION = Attention()
