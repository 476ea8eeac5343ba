"""What networks of a space cost, looked up for whole batches of choices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from fpnas.blocks import BlockShape, BlockSpec, output_size
from fpnas.errors import UserError
from fpnas.spaces.block_group import BlockGroup
from fpnas.spaces.space import SearchVariable


class Network(Protocol):
    """What a table reads of a NetworkSpace, which itself looks its costs up in tables."""

    name: str
    input_size: int
    stem: BlockSpec
    block_groups: Sequence[BlockGroup]
    head: BlockSpec
    variables: Sequence[SearchVariable]
    cardinalities: Sequence[int]
    group_columns: Sequence[Sequence[int]]

    def check(self, choices: Tensor) -> None: ...


class _Blocks(dict[tuple[int, int], BlockSpec]):
    """Block ``number`` of a group by (combination, entering channels), made when it is asked for.

    Where the group chooses its channels, one block stands for all that may enter.
    """

    def __init__(self, group: BlockGroup, number: int) -> None:
        super().__init__()
        self.group = group
        self.number = number

    def __missing__(self, key: tuple[int, int]) -> BlockSpec:
        combination, in_channels = key
        choice = self.group.combination(combination)
        self[key] = block = self.group.spec(choice, self.number, in_channels)
        return block


@dataclass(frozen=True)
class _Part:
    """A stretch of the table: the stem, the first block of a group, its other blocks, or the head.

    Its cells are ``[entering channels, combinations of its group's choices]``.
    """

    start: int  # of its cells in the table
    in_channels: Sequence[int] | None  # that may enter; None: those that leave it, one row for all
    in_size: int  # rows (= columns) that enter it, px
    num_combinations: int
    blocks: BlockSpec | _Blocks
    count: int = 1  # how often it stands there
    goes_on: bool = False  # with the group of the part in front of it

    @property
    def end(self) -> int:
        rows = 1 if self.in_channels is None else len(self.in_channels)
        return self.start + rows * self.num_combinations

    def shape(self, cell: int) -> BlockShape:
        """The block that a cell of the table is about."""
        entry, combination = divmod(cell - self.start, self.num_combinations)
        channels = 0 if self.in_channels is None else self.in_channels[entry]
        blocks = self.blocks
        block = blocks[combination, channels] if isinstance(blocks, _Blocks) else blocks
        return BlockShape(block, channels or block.channels, self.in_size)


class Link(NamedTuple):
    """A block group in the chain of groups that a network is.

    Attributes:
        costs: [entering channels, values of the group's first variable, of its second, ...].
        position: which of these variables chooses the channels that leave; None: they are those
            that enter.
    """

    costs: Tensor
    position: int | None


class Chain(NamedTuple):
    """All that the costs of a space's networks consist of.

    Attributes:
        first: [1], the stem and what every network costs beside its blocks.
        links: the block groups.
        last: [channels that leave the last group], the head.
    """

    first: Tensor
    links: tuple[Link, ...]
    last: Tensor


class CostTable(ABC):
    """``cost(choices[K, V]) -> Tensor[K]`` where a network costs the sum of its blocks.

    Block groups depend on each other only through the channels between them, so that one table of
    (channels that enter a group, its choices) for each of them has the costs of all networks. A
    cell is filled when it is first needed.

    A cost derives from this class and implements :meth:`prices`.

    Attributes:
        is_measured: prices take measurements, so that cells are to be filled only when needed.
    """

    dtype: ClassVar[torch.dtype] = torch.int64
    is_measured: ClassVar[bool] = False

    def __init__(self, space: Network) -> None:
        self.space = space
        self._parts, self._strides = _layout(space)
        self._starts = torch.tensor([part.start for part in self._parts])
        num_cells = self._parts[-1].end
        self._costs = torch.zeros(num_cells, dtype=self.dtype)
        self._known = torch.zeros(num_cells, dtype=torch.bool)

    @abstractmethod
    def prices(self, shapes: Sequence[BlockShape]) -> Sequence[float]:
        """What each of these blocks costs."""

    @property
    def constant(self) -> float:
        """What every network costs beside its blocks."""
        return 0

    def __call__(self, choices: Tensor) -> Tensor:
        """Costs of ``choices[K, V]``. Raises UserError on choices that are not of the space."""
        self.space.check(choices)
        if choices.dim() != 2:
            raise UserError(
                f"Costs in space '{self.space.name}' are those of K architectures, choices of "
                f"shape (K, {len(self.space.variables)}); found {tuple(choices.shape)}."
            )
        # In float64, in which these products are exact, since BLAS has no integers.
        cells = (choices.cpu().double() @ self._strides).long() + self._starts
        if not self._known[cells].all():
            self._fill(cells.unbind(1))
        return self._costs[cells].sum(1) + self.constant

    def shapes(self) -> list[BlockShape]:
        """Every distinct block of the space at its input size, in order of execution."""
        shapes = (part.shape(cell) for part in self._parts for cell in range(part.start, part.end))
        return list(dict.fromkeys(shapes))

    def range(self) -> tuple[float, float]:
        """Exact smallest and largest cost of the space, by a pass over the groups.

        It keeps the best sum for each number of channels between two of them.
        """
        lowest = highest = self.chain.first
        for costs, position in self.chain.links:
            if position is None:
                lowest, highest = (
                    lowest + costs.flatten(1).amin(1),
                    highest + costs.flatten(1).amax(1),
                )
                continue
            # [entering channels, leaving channels, other choices]
            costs = costs.movedim(1 + position, 1)[..., None].flatten(2)
            lowest = (lowest[:, None] + costs.amin(2)).amin(0)
            highest = (highest[:, None] + costs.amax(2)).amax(0)
        return (lowest + self.chain.last).min().item(), (highest + self.chain.last).max().item()

    def expected(self, probabilities: Sequence[Tensor]) -> Tensor:
        """E[cost] when every search variable is drawn by itself; exact and differentiable.

        Args:
            probabilities: [values] for each of the V variables.

        Returns:
            A float64 scalar.
        """
        total = self.chain.first.double().sum()
        entering = torch.ones(1, dtype=torch.float64)
        for columns, (costs, position) in zip(
            self.space.group_columns, self.chain.links, strict=True
        ):
            own = [probabilities[column].double() for column in columns]
            mean = costs.double()
            for values in reversed(own):
                mean = mean @ values
            total = total + entering @ mean
            if position is not None:
                entering = own[position]
        return total + entering @ self.chain.last.double()

    @cached_property
    def chain(self) -> Chain:
        """The whole table, by group; every cell is filled, which may take a while."""
        self._fill([torch.arange(part.start, part.end) for part in self._parts])
        grids: list[Tensor] = []
        for part in self._parts:
            costs = self._costs[part.start : part.end].view(-1, part.num_combinations)
            if part.goes_on:
                grids[-1] = grids[-1] + costs
            else:
                grids.append(costs)
        stem, *groups, head = grids
        links = []
        for group, costs in zip(self.space.block_groups, groups, strict=True):
            sizes = [len(values) for values in group.variables.values()]
            links.append(Link(costs.unflatten(1, sizes), group.channel_position))
        return Chain(stem.flatten() + self.constant, tuple(links), head.flatten())

    def _fill(self, cells: Sequence[Tensor]) -> None:
        """Look up those of the cells of each part that are not known yet."""
        new: list[int] = []
        counts: list[int] = []
        shapes: list[BlockShape] = []
        for part, own in zip(self._parts, cells, strict=True):
            unknown = own[~self._known[own]].unique().tolist()
            new += unknown
            counts += [part.count] * len(unknown)
            shapes += map(part.shape, unknown)
        if new:
            prices = torch.tensor(self.prices(shapes), dtype=self.dtype)
            self._costs[new] = prices * torch.tensor(counts)
            self._known[new] = True


class BlockCosts(CostTable):
    """The FLOPs or the params of a space's networks, as the blocks themselves say.

    Args:
        space: at the input size and number of classes at which they are counted.
        name: "flops" or "params".
    """

    def __init__(self, space: Network, name: str) -> None:
        super().__init__(space)
        self.name = name

    def prices(self, shapes: Sequence[BlockShape]) -> list[int]:
        return [getattr(shape.cost, self.name) for shape in shapes]


def _layout(space: Network) -> tuple[list[_Part], Tensor]:
    """The parts of the table; strides [V, parts]: ``choices @ strides`` are cells in the parts."""
    size = space.input_size
    parts = [_Part(0, [3], size, 1, space.stem)]
    strides = [torch.zeros(len(space.variables), dtype=torch.float64)]
    channels, size = [space.stem.channels], output_size(size, space.stem.stride)
    chooser = None  # the variable that chooses the channels in front of a group
    for group, columns in zip(space.block_groups, space.group_columns, strict=True):
        own, combinations = torch.zeros_like(strides[0]), 1
        for column in reversed(columns):
            own[column] = combinations
            combinations *= space.cardinalities[column]
        entering = torch.zeros_like(own)
        if chooser is not None:
            entering[chooser] = combinations
        parts.append(_Part(parts[-1].end, channels, size, combinations, _Blocks(group, 0)))
        strides.append(entering + own)
        size = output_size(size, group.stride)
        chooses = group.channel_position is not None
        if group.repeats > 1:
            # Where the group follows, what enters the first block enters the others, too.
            rows, places = (None, own) if chooses else (channels, entering + own)
            alike = _Blocks(group, 1), group.repeats - 1, True
            parts.append(_Part(parts[-1].end, rows, size, combinations, *alike))
            strides.append(places)
        channels = group.leaving(channels)
        if chooses:
            chooser = columns[group.channel_position]
    parts.append(_Part(parts[-1].end, channels, size, 1, space.head))
    strides.append(torch.zeros_like(strides[0]))
    if chooser is not None:
        strides[-1][chooser] = 1
    return parts, torch.stack(strides, 1)
