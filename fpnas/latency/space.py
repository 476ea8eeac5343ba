"""Latency of many architectures of a space at once, by looking up whole block groups."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from fpnas.blocks import BlockSpec, output_size
from fpnas.errors import UserError
from fpnas.latency.block_timer import BlockShape
from fpnas.spaces import NetworkSpace


class BlockLatencies(Protocol):
    """What SpaceLatency reads: a LatencyTable."""

    intercept_ms: float

    def block(self, shape: BlockShape) -> float: ...

    def measure_blocks(self, shapes: Iterable[BlockShape]) -> int: ...


@dataclass
class _Section:
    """The stem, a block group or the head.

    Attributes:
        options: the blocks of each combination of the section's choices.
        in_channels: channels that may enter it.
        in_size: rows (= columns) that enter it, px.
        ms: float64 ``[len(in_channels), len(options)]``, NaN where not looked up yet.
    """

    options: Sequence[tuple[BlockSpec, ...]]
    in_channels: Sequence[int]
    in_size: int
    ms: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.ms = torch.full(
            (len(self.in_channels), len(self.options)), torch.nan, dtype=torch.float64
        )

    def shapes(self, entry: int, option: int) -> list[BlockShape]:
        """The blocks of an option behind ``in_channels[entry]`` channels."""
        channels, size, shapes = self.in_channels[entry], self.in_size, []
        for block in self.options[option]:
            shapes.append(BlockShape(block, channels, size))
            channels, size = block.channels, output_size(size, block.stride)
        return shapes


class SpaceLatency:
    """``choices[K, V] -> float64 Tensor[K]``, ms; see :meth:`LatencyTable.cost`.

    Groups depend on each other only through the channels between them, so the latency of a group
    is a table of (channels that enter it, its choices), which is filled when first needed.
    """

    def __init__(self, space: NetworkSpace, table: BlockLatencies) -> None:
        self.space = space
        self.table = table
        size = space.input_size
        self._sections = [_Section([(space.stem,)], [3], size)]
        channels, size = [space.stem.channels], output_size(size, space.stem.stride)
        for group in space.block_groups:
            options = [group.blocks(choice) for choice in group.combinations()]
            self._sections.append(_Section(options, channels, size))
            channels, size = group.variables["channels"], output_size(size, group.stride)
        self._sections.append(_Section([(space.head,)], channels, size))

    def __call__(self, choices: Tensor) -> Tensor:
        """Latency of ``choices[K, V]``. Raises UserError on choices that are not of the space."""
        self.space.check(choices)
        if choices.dim() != 2:
            raise UserError(
                f"Latencies in space '{self.space.name}' are those of K architectures, choices of "
                f"shape (K, {len(self.space.variables)}); found {tuple(choices.shape)}."
            )
        cells = self._cells(choices.cpu())
        self._fill(cells)
        total = torch.full((len(choices),), self.table.intercept_ms, dtype=torch.float64)
        for section, (entries, options) in zip(self._sections, cells, strict=True):
            total += section.ms[entries, options]
        return total

    def block_shapes(self) -> list[BlockShape]:
        """Every distinct block of the space at its input size, in order of execution."""
        return list(
            dict.fromkeys(
                shape
                for section in self._sections
                for entry, option in itertools.product(
                    range(len(section.in_channels)), range(len(section.options))
                )
                for shape in section.shapes(entry, option)
            )
        )

    def _cells(self, choices: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each section the row and the column of its ``ms``, LongTensors ``[K]``."""
        zeros = torch.zeros(len(choices), dtype=torch.long)
        cells, entries = [(zeros, zeros)], zeros
        for group, columns in zip(self.space.block_groups, self.space.group_columns, strict=True):
            options = zeros
            for name, column in zip(group.variables, columns, strict=True):
                options = options * len(group.variables[name]) + choices[:, column]
            cells.append((entries, options))
            entries = choices[:, columns[list(group.variables).index("channels")]]
        return [*cells, (entries, zeros)]

    def _fill(self, cells: list[tuple[Tensor, Tensor]]) -> None:
        """Look up, and measure where necessary, the given cells that are still NaN."""
        empty = []
        for section, (entries, options) in zip(self._sections, cells, strict=True):
            unknown = section.ms[entries, options].isnan()
            if unknown.any():
                pairs = torch.stack([entries[unknown], options[unknown]], dim=1).unique(dim=0)
                empty += [
                    (section, entry, option, section.shapes(entry, option))
                    for entry, option in pairs.tolist()
                ]
        if not empty:
            return
        self.table.measure_blocks(shape for *_, shapes in empty for shape in shapes)
        for section, entry, option, shapes in empty:
            section.ms[entry, option] = sum(self.table.block(shape) for shape in shapes)
