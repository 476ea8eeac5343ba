"""Block groups: blocks that share their choices, alone and as the rows of a macro table."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fpnas.blocks import BLOCK_REGISTRY, BlockSpec
from fpnas.blocks.spec import check_whole
from fpnas.errors import ConfigError, check_known


@dataclass(frozen=True)
class BlockGroup:
    """A row of the macro table: ``repeats`` blocks that share their choices.

    Attributes:
        variables: for each searched field of the block type its values. The names are fields of
            the block type. Without ``channels`` among them the group *follows*: its blocks have as
            many channels as enter them, as blocks with a shortcut have.
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
        if "channels" in self.constants:
            raise ConfigError(
                "A block group has 'channels' among its variables (one value is enough), not among "
                "its constants."
            )
        known = {*self.variables, *self.fixed, "channels"}
        missing = [name for name in fields if name not in known]
        if missing:
            raise ConfigError(
                f"Block '{self.block}' has no default for {', '.join(missing)}; give each at least "
                "one value in the group's variables."
            )
        check_whole(self, repeats=1, stride=1)

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
    def channel_position(self) -> int | None:
        """Which of the variables is ``channels``; None: the group follows."""
        return list(self.variables).index("channels") if "channels" in self.variables else None

    def leaving(self, entering: Sequence[int]) -> Sequence[int]:
        """The numbers of channels that may leave the group, if these may enter it."""
        return self.variables.get("channels", entering)

    def spec(self, choice: Mapping[str, Any], number: int, in_channels: int) -> BlockSpec:
        """Block ``number`` of those that a choice (field -> value) stands for.

        ``in_channels`` enter the group; they matter to one that follows.
        """
        stride = self.stride if number == 0 else 1
        fields = {"channels": in_channels, **self.fixed, **choice, "stride": stride}
        return self.spec_type.from_choice(**fields)

    def blocks(self, choice: Mapping[str, Any], in_channels: int) -> tuple[BlockSpec, ...]:
        """The blocks that a choice stands for; all but the first are alike."""
        return tuple(self.spec(choice, number, in_channels) for number in range(self.repeats))

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


class Row(NamedTuple):
    """A row of a macro table. ``channels`` is (min, max, step), inclusive, as printed."""

    expansion: Sequence[float]
    channels: tuple[int, int, int]
    repeats: int
    stride: int


def block_groups(
    rows: Sequence[Row], micro: Mapping[str, Sequence[Any]], per_block: bool = False
) -> list[BlockGroup]:
    """One group a row, or with ``per_block`` one group a block."""
    groups = []
    for row in rows:
        low, high, step = row.channels
        variables = {
            **micro,
            "expansion": tuple(row.expansion),
            "channels": tuple(range(low, high + 1, step)),
        }
        if per_block:
            strides = [row.stride] + [1] * (row.repeats - 1)
            groups += [BlockGroup(variables, stride=stride) for stride in strides]
        else:
            groups.append(BlockGroup(variables, repeats=row.repeats, stride=row.stride))
    return groups
