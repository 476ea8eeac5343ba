"""Spaces of networks: block groups between a stem and a head."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from fpnas.archs import Architecture
from fpnas.blocks import BLOCK_REGISTRY, BlockSpec, Cost, output_size
from fpnas.errors import ConfigError, UserError, check_known
from fpnas.spaces.space import SearchSpace, SearchVariable, VariableGroup


@dataclass(frozen=True)
class BlockGroup:
    """A row of the macro table: ``repeats`` blocks that share their choices.

    Attributes:
        variables: for each searched field of the block type its values. The names are fields of
            the block type; ``channels`` is always one of them.
        repeats: number of blocks.
        stride: of the first block; the others have stride 1.
        block: name in BLOCK_REGISTRY.
        constants: fields that all choices share, where they differ from the block type's defaults.
    """

    variables: Mapping[str, Sequence[Any]]
    repeats: int = 1
    stride: int = 1
    block: str = "MBConv"
    constants: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        spec_type = BLOCK_REGISTRY.get(self.block)
        fields = [f.name for f in dataclasses.fields(spec_type) if f.name != "stride"]
        for name in (*self.variables, *self.constants):
            unknown = f"Block '{self.block}' has no field '{name}' for a group to set"
            check_known(name, fields, unknown, ConfigError)
        twice = sorted(set(self.variables) & set(self.constants))
        if twice:
            raise ConfigError(f"A block group both searches and sets {', '.join(twice)}.")
        if "channels" not in self.variables:
            raise ConfigError("A block group needs the variable 'channels' (one value is enough).")
        missing = [n for n in fields if n not in self.variables and n not in self.fixed]
        if missing:
            raise ConfigError(
                f"Block '{self.block}' has no default for {', '.join(missing)}; give each at least "
                "one value in the group's variables."
            )
        for name, value in (("repeats", self.repeats), ("stride", self.stride)):
            if type(value) is not int or value < 1:
                raise ConfigError(
                    f"BlockGroup.{name} must be a whole number of at least 1, found {value!r}."
                )

    @property
    def spec_type(self) -> type[BlockSpec]:
        return BLOCK_REGISTRY.get(self.block)

    @property
    def fixed(self) -> dict[str, Any]:
        """Fields of the block type that are not searched: the constants and the defaults."""
        defaults = {
            field.name: field.default
            for field in dataclasses.fields(self.spec_type)
            if field.name not in (*self.variables, "stride")
            and field.default is not dataclasses.MISSING
        }
        return {**defaults, **self.constants}

    @cached_property
    def columns(self) -> dict[str, Tensor | list[Any]]:
        """Values of each field but the stride, in the form that ``batch_cost`` takes."""
        fixed = {name: [value] for name, value in self.fixed.items()}
        return {name: _column(values) for name, values in {**fixed, **self.variables}.items()}

    def blocks(self, choice: Mapping[str, Any]) -> tuple[BlockSpec, ...]:
        """The blocks that a choice (field -> value) stands for."""
        return tuple(
            self.spec_type.from_choice(**self.fixed, **choice, stride=self.stride if i == 0 else 1)
            for i in range(self.repeats)
        )

    def combinations(
        self, variables: Mapping[str, Sequence[Any]] | None = None
    ) -> list[dict[str, Any]]:
        """All choices, as field -> value; of other ``variables`` than the group's own if given."""
        variables = self.variables if variables is None else variables
        return [
            dict(zip(variables, values, strict=True))
            for values in itertools.product(*variables.values())
        ]


class NetworkSpace(SearchSpace):
    """A search space whose points are networks.

    Attributes:
        input_size: side of the square input at which costs are counted, px.
        stem, head: fixed blocks around the searched ones.
        block_groups: the rows of the macro table, aligned with ``groups``.
    """

    def __init__(
        self,
        name: str,
        input_size: int,
        stem: BlockSpec,
        block_groups: Sequence[BlockGroup],
        head: BlockSpec,
    ) -> None:
        super().__init__(
            name,
            [
                VariableGroup(
                    f"stage{i}",
                    tuple(SearchVariable(n, tuple(v)) for n, v in group.variables.items()),
                )
                for i, group in enumerate(block_groups, start=1)
            ],
        )
        if type(input_size) is not int or input_size < 1:
            raise ConfigError(
                f"Space '{name}': input_size must be a whole number of px, found {input_size!r}."
            )
        self.input_size = input_size
        self.stem = stem
        self.block_groups = tuple(block_groups)
        self.head = head

    @property
    def num_classes(self) -> int:
        return self.head.num_classes

    @property
    def num_blocks(self) -> int:
        """Searched blocks; stem and head do not count."""
        return sum(group.repeats for group in self.block_groups)

    @cached_property
    def num_distinct(self) -> int:
        """Architectures that differ as networks: choices that a skip ignores are merged."""
        return math.prod(
            len({group.blocks(choice) for choice in group.combinations()})
            for group in self.block_groups
        )

    def at(self, input_size: int | None = None, num_classes: int | None = None) -> NetworkSpace:
        """This space with its costs counted at another input size or number of classes."""
        head = self.head
        if num_classes is not None:
            head = dataclasses.replace(head, num_classes=num_classes)
        return NetworkSpace(
            self.name, input_size or self.input_size, self.stem, self.block_groups, head
        )

    def with_shortcut(self, shortcut: str) -> NetworkSpace:
        """This space with another ``MBConvSpec.shortcut`` in all its blocks.

        Costs stay the same. Raises ConfigError on blocks without this field.
        """
        groups = [
            dataclasses.replace(group, constants={**group.constants, "shortcut": shortcut})
            for group in self.block_groups
        ]
        return NetworkSpace(self.name, self.input_size, self.stem, groups, self.head)

    def architecture(self, choices: Tensor | Sequence[int], name: str = "") -> Architecture:
        """The network of ``choices[V]``. Raises UserError on choices out of range."""
        decoded = self.decode(choices)
        return Architecture(
            name=name or self.name,
            input_size=self.input_size,
            stem=self.stem,
            stages=tuple(
                group.blocks(choice)
                for group, choice in zip(self.block_groups, decoded, strict=True)
            ),
            head=self.head,
        )

    def flops(self, choices: Tensor) -> Tensor:
        """Multiply-adds of ``choices[K, V]``, LongTensor ``[K]``; equals ``Architecture.flops``."""
        return self.costs(choices).flops

    def params(self, choices: Tensor) -> Tensor:
        """Weights of ``choices[K, V]``, LongTensor ``[K]``; equals ``Architecture.params``."""
        return self.costs(choices).params

    def costs(self, choices: Tensor) -> Cost:
        """FLOPs and params of ``choices[K, V]`` from the choices' numbers alone."""
        self.check(choices)
        if choices.dim() != 2:
            raise UserError(
                f"Costs in space '{self.name}' are those of K architectures, choices of shape "
                f"(K, {len(self.variables)}); found {tuple(choices.shape)}."
            )
        if not len(choices):
            return Cost(choices.new_zeros(0), choices.new_zeros(0))
        size = output_size(self.input_size, self.stem.stride)
        stem = self.stem.cost(3, self.input_size, self.input_size)
        channels = torch.full((len(choices),), self.stem.channels)
        flops = torch.full_like(channels, stem.flops)
        params = torch.full_like(channels, stem.params)
        for group, columns in zip(self.block_groups, self.group_columns, strict=True):
            fields = {
                name: _take(group.columns[name], choices[:, column])
                for name, column in zip(group.variables, columns, strict=True)
            }
            cost = _group_cost(group, fields, channels, size)
            flops, params = flops + cost.flops, params + cost.params
            channels, size = fields["channels"], output_size(size, group.stride)
        head = self._head_cost(channels, size)
        return Cost(flops + head.flops, params + head.params)

    def cost_range(self, cost: str = "flops") -> tuple[int, int]:
        """Exact smallest and largest cost of the space; ``cost`` is "flops" or "params".

        Groups depend on each other only through the channels between them, so a pass over the
        groups that keeps the best value for every channel count is exact.
        """
        if cost not in Cost._fields:
            raise ConfigError(f"A space's cost is one of {Cost._fields}, found '{cost}'.")
        size = output_size(self.input_size, self.stem.stride)
        stem = getattr(self.stem.cost(3, self.input_size, self.input_size), cost)
        lowest, highest = {self.stem.channels: stem}, {self.stem.channels: stem}
        for group in self.block_groups:
            choices = group.combinations()
            fields = {
                name: _take(group.columns[name], _indices(choices, values, name))
                for name, values in group.variables.items()
            }
            next_lowest: dict[int, int] = {}
            next_highest: dict[int, int] = {}
            for channels in lowest:
                entering = torch.full((len(choices),), channels)
                costs = getattr(_group_cost(group, fields, entering, size), cost)
                for value in set(group.variables["channels"]):
                    own = costs[fields["channels"] == value]
                    low = lowest[channels] + int(own.min())
                    high = highest[channels] + int(own.max())
                    next_lowest[value] = min(low, next_lowest.get(value, low))
                    next_highest[value] = max(high, next_highest.get(value, high))
            lowest, highest, size = next_lowest, next_highest, output_size(size, group.stride)
        heads = {c: getattr(self._head_cost(torch.tensor([c]), size), cost).item() for c in lowest}
        return (
            min(low + heads[c] for c, low in lowest.items()),
            max(high + heads[c] for c, high in highest.items()),
        )

    def _head_cost(self, channels: Tensor, size: int) -> Cost:
        fields = {f.name: getattr(self.head, f.name) for f in dataclasses.fields(self.head)}
        columns = {name: [value] * len(channels) for name, value in fields.items()}
        return type(self.head).batch_cost(columns, channels, size, size)


def _group_cost(
    group: BlockGroup, fields: Mapping[str, Any], in_channels: Tensor, size: int
) -> Cost:
    """Cost of all blocks of a group for K choices; all but the first block are alike."""
    unsearched = torch.zeros_like(in_channels)
    fields = {
        **{name: _take(group.columns[name], unsearched) for name in group.fixed},
        **fields,
    }
    first = group.spec_type.batch_cost(
        {**fields, "stride": torch.full_like(in_channels, group.stride)}, in_channels, size, size
    )
    if group.repeats == 1:
        return first
    size = output_size(size, group.stride)
    rest = group.spec_type.batch_cost(
        {**fields, "stride": torch.ones_like(in_channels)}, fields["channels"], size, size
    )
    return Cost(
        first.flops + (group.repeats - 1) * rest.flops,
        first.params + (group.repeats - 1) * rest.params,
    )


def _column(values: Sequence[Any]) -> Tensor | list[Any]:
    """``values`` as a tensor when they are numbers, else as they are."""
    if all(isinstance(value, (int, float)) for value in values):
        # float64, in which single architectures compute: a float32 product may round elsewhere.
        exact = torch.float64 if any(isinstance(value, float) for value in values) else None
        return torch.tensor(values, dtype=exact)
    return list(values)


def _take(column: Tensor | list[Any], indices: Tensor) -> Tensor | list[Any]:
    """The values of ``column`` at ``indices[K]``."""
    if isinstance(column, Tensor):
        return column[indices]
    if len(column) == 1:
        return column * len(indices)
    return [column[i] for i in indices.tolist()]


def _indices(choices: list[dict[str, Any]], values: Sequence[Any], name: str) -> Tensor:
    position = {value: i for i, value in enumerate(values)}
    return torch.tensor([position[choice[name]] for choice in choices])
