"""Spaces of networks: block groups between a stem and a head; by name, and that of a config."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import cached_property

from torch import Tensor

from fpnas.archs import Architecture
from fpnas.blocks import SHORTCUTS, BlockSpec, Cost
from fpnas.config import CfgNode
from fpnas.config.checks import check_name
from fpnas.errors import ConfigError
from fpnas.spaces.block_group import BlockGroup
from fpnas.spaces.cost_table import BlockCosts
from fpnas.spaces.space import SearchSpace, SearchVariable, VariableGroup
from fpnas.utils.registry import Registry


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


SPACE_REGISTRY = Registry(
    "SPACE",
    contract="""Names of search spaces: callables without arguments that return a NetworkSpace.

    Register your own::

        @SPACE_REGISTRY.register(name="My-Space")
        def my_space() -> NetworkSpace:
            return NetworkSpace("My-Space", input_size=32, stem=..., block_groups=[...], head=...)
    """,
)


def get_space(name: str) -> NetworkSpace:
    """The space called ``name``. Raises UnknownNameError, which lists the names."""
    return SPACE_REGISTRY.get(name)()


def build_space(cfg: CfgNode) -> NetworkSpace:
    """Space ``SEARCH.SPACE`` with ``SEARCH.SHORTCUT``; costs at its own input size and classes.

    Raises ConfigError on an unknown shortcut or one that the space's blocks do not have.
    """
    space, shortcut = get_space(cfg.SEARCH.SPACE), cfg.SEARCH.SHORTCUT
    check_name("SEARCH.SHORTCUT", shortcut, ("", *SHORTCUTS))
    return space.with_shortcut(shortcut) if shortcut else space
