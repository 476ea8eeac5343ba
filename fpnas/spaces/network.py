"""Spaces of networks: block groups between a stem and a head; by name, and that of a config."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from fpnas.archs import Architecture, get_arch
from fpnas.blocks import SHORTCUTS, BlockSpec, Cost
from fpnas.config import CfgNode
from fpnas.config.checks import check_name
from fpnas.errors import ConfigError
from fpnas.layers import BN_EPS
from fpnas.spaces.around import DEFAULT_CUTS, Cuts, groups_around
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
        stages: how many of the block groups make each stage of a network.
        bn_eps: of its networks, as in :class:`~fpnas.archs.Architecture`.
        origin: the architecture around which the space lies; None: it is no such space.
    """

    def __init__(
        self,
        name: str,
        input_size: int,
        stem: BlockSpec,
        block_groups: Sequence[BlockGroup],
        head: BlockSpec,
        stages: Sequence[int] = (),
        bn_eps: float = BN_EPS,
        origin: Architecture | None = None,
    ) -> None:
        """``stages``: one for each block group if it is empty; the others as the attributes."""
        stages = tuple(stages) or (1,) * len(block_groups)
        if sum(stages) != len(block_groups) or min(stages, default=1) < 1:
            raise ConfigError(
                f"Space '{name}': stages of {list(stages)} block groups are not its "
                f"{len(block_groups)} block groups."
            )
        names = [
            f"stage{s}" if count == 1 else f"stage{s}.{number}"
            for s, count in enumerate(stages, start=1)
            for number in range(count)
        ]
        super().__init__(
            name,
            [
                VariableGroup(
                    group_name,
                    tuple(SearchVariable(n, tuple(v)) for n, v in group.variables.items()),
                )
                for group_name, group in zip(names, block_groups, strict=True)
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
        self.stages = stages
        self.bn_eps = bn_eps
        self.origin = origin
        self._cost_tables: dict[str, BlockCosts] = {}

    @classmethod
    def around(cls, arch: Architecture, cuts: Cuts = DEFAULT_CUTS) -> NetworkSpace:
        """The space of the architectures that ``arch`` becomes when some of it is cut away.

        Each block is a group of its own, in the stage in which it stands; stem and head stay as
        they are. ``arch`` itself is a point of the space, :attr:`origin_choices`. Costs are counted
        at its input size.

        Raises ConfigError as :func:`~fpnas.spaces.around.groups_around`.
        """
        return cls(
            f"around-{arch.name}",
            arch.input_size,
            arch.stem,
            groups_around(arch, cuts),
            arch.head,
            stages=[len(stage) for stage in arch.stages],
            bn_eps=arch.bn_eps,
            origin=arch,
        )

    @property
    def origin_choices(self) -> Tensor:
        """The choices that are :attr:`origin`, int64 [V]: the largest value of each variable.

        Raises ConfigError on a space that lies around nothing.
        """
        if self.origin is None:
            raise ConfigError(f"Space '{self.name}' does not lie around an architecture.")
        return torch.tensor([v.values.index(max(v.values)) for v in self.variables])

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
            len({group.blocks(choice, in_channels=1) for choice in group.combinations()})
            for group in self.block_groups
        )

    @property
    def places(self) -> tuple[tuple[str, ...], ...]:
        """The paths, inside a network, of the blocks of each block group, such as "stage2.0"."""
        groups = iter(self.block_groups)
        places = []
        for s, count in enumerate(self.stages, start=1):
            first = 0
            for group in itertools.islice(groups, count):
                places.append(tuple(f"stage{s}.{first + b}" for b in range(group.repeats)))
                first += group.repeats
        return tuple(places)

    def at(self, input_size: int | None = None, num_classes: int | None = None) -> NetworkSpace:
        """This space with its costs counted at another input size or number of classes."""
        head = self.head
        if num_classes is not None:
            head = dataclasses.replace(head, num_classes=num_classes)
        return self._like(input_size or self.input_size, self.block_groups, head)

    def with_shortcut(self, shortcut: str) -> NetworkSpace:
        """This space with another ``MBConvSpec.shortcut`` in all its blocks.

        Costs stay the same. Raises ConfigError on blocks without this field.
        """
        groups = [
            dataclasses.replace(group, constants={**group.constants, "shortcut": shortcut})
            for group in self.block_groups
        ]
        return self._like(self.input_size, groups, self.head)

    def _like(self, input_size: int, groups: Sequence[BlockGroup], head: BlockSpec) -> NetworkSpace:
        return NetworkSpace(
            self.name, input_size, self.stem, groups, head, self.stages, self.bn_eps, self.origin
        )

    def architecture(self, choices: Tensor | Sequence[int], name: str = "") -> Architecture:
        """The network of ``choices[V]``. Raises UserError on choices out of range."""
        blocks = []
        channels = self.stem.channels
        for group, choice in zip(self.block_groups, self.decode(choices), strict=True):
            blocks.append(group.blocks(choice, channels))
            channels = blocks[-1][-1].channels
        groups = iter(blocks)
        return Architecture(
            name=name or self.name,
            input_size=self.input_size,
            stem=self.stem,
            stages=tuple(
                tuple(itertools.chain.from_iterable(itertools.islice(groups, count)))
                for count in self.stages
            ),
            head=self.head,
            bn_eps=self.bn_eps,
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


AROUND = "around:"


def get_space(name: str) -> NetworkSpace:
    """The space called ``name``, or of ``around:ARCH`` the one around that architecture.

    ARCH is a name in ARCH_REGISTRY or a YAML file. Raises UnknownNameError, which lists the names.
    """
    if name.startswith(AROUND):
        return NetworkSpace.around(get_arch(name.removeprefix(AROUND)))
    return SPACE_REGISTRY.get(name)()


def build_space(cfg: CfgNode) -> NetworkSpace:
    """Space ``SEARCH.SPACE`` with ``SEARCH.SHORTCUT``; costs at its own input size and classes.

    Raises ConfigError on an unknown shortcut or one that the space's blocks do not have.
    """
    space, shortcut = get_space(cfg.SEARCH.SPACE), cfg.SEARCH.SHORTCUT
    check_name("SEARCH.SHORTCUT", shortcut, ("", *SHORTCUTS))
    return space.with_shortcut(shortcut) if shortcut else space
