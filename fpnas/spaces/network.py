"""Spaces of networks: block groups between a stem and a head."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from fpnas.archs import Architecture
from fpnas.blocks import BLOCK_REGISTRY, BlockSpec, Cost
from fpnas.errors import ConfigError, check_known
from fpnas.spaces.cost_table import BlockCosts
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

    @property
    def channel_position(self) -> int:
        """Which of the variables is ``channels``."""
        return list(self.variables).index("channels")

    def spec(self, choice: Mapping[str, Any], number: int) -> BlockSpec:
        """Block ``number`` of those that a choice (field -> value) stands for."""
        stride = self.stride if number == 0 else 1
        return self.spec_type.from_choice(**self.fixed, **choice, stride=stride)

    def blocks(self, choice: Mapping[str, Any]) -> tuple[BlockSpec, ...]:
        """The blocks that a choice stands for; all but the first are alike."""
        return tuple(self.spec(choice, number) for number in range(self.repeats))

    def combination(self, number: int) -> dict[str, Any]:
        """``combinations()[number]``, without the others."""
        choice = {}
        for name, values in reversed(self.variables.items()):
            number, index = divmod(number, len(values))
            choice[name] = values[index]
        return choice

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
        self._cost_tables: dict[str, BlockCosts] = {}

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
        return self.cost_table("flops")(choices)

    def params(self, choices: Tensor) -> Tensor:
        """Weights of ``choices[K, V]``, LongTensor ``[K]``; equals ``Architecture.params``."""
        return self.cost_table("params")(choices)

    def costs(self, choices: Tensor) -> Cost:
        """FLOPs and params of ``choices[K, V]``."""
        return Cost(self.flops(choices), self.params(choices))

    def cost_range(self, cost: str = "flops") -> tuple[int, int]:
        """Exact smallest and largest cost of the space; ``cost`` is "flops" or "params"."""
        return self.cost_table(cost).range()

    def cost_table(self, cost: str) -> BlockCosts:
        """What :meth:`flops` or :meth:`params` looks up, and what else follows from it.

        Raises ConfigError unless ``cost`` is "flops" or "params".
        """
        if cost not in Cost._fields:
            raise ConfigError(f"A space's cost is one of {Cost._fields}, found '{cost}'.")
        if cost not in self._cost_tables:
            self._cost_tables[cost] = BlockCosts(self, cost)
        return self._cost_tables[cost]
