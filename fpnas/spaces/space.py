"""What may be searched, as pure combinatorics: variables, groups of variables, spaces of groups.

A space knows nothing about networks. Tables, simulators and other evaluators are searched through
the very class that the network spaces extend.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fpnas.errors import UserError


@dataclass(frozen=True)
class SearchVariable:
    """One choice to make, such as a kernel size: a name and the values to choose from.

    Raises UserError when there is no value to choose from.
    """

    name: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        if not self.values:
            raise UserError(f"Search variable '{self.name}' has no values; it needs at least one.")

    @property
    def cardinality(self) -> int:
        """Number of values."""
        return len(self.values)


@dataclass(frozen=True)
class VariableGroup:
    """Variables that belong together, such as those of one block group.

    A joint distribution has one categorical for a whole group, over all its combinations.
    Raises UserError on an empty group and on repeated variable names.
    """

    name: str
    variables: tuple[SearchVariable, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "variables", tuple(self.variables))
        names = [variable.name for variable in self.variables]
        if not names:
            raise UserError(f"Group '{self.name}' has no variables; it needs at least one.")
        if len(set(names)) < len(names):
            raise UserError(f"Group '{self.name}' repeats a variable name: {', '.join(names)}.")

    @property
    def num_combinations(self) -> int:
        """Product of the cardinalities."""
        return math.prod(variable.cardinality for variable in self.variables)


class SearchSpace:
    """All combinations of the values of some variables, which come in groups.

    An architecture is a row of ``choices``: one index into ``values`` for each of the ``V``
    variables, in group order, dtype int64.

    Attributes:
        name: shown in messages and files.
        groups: the groups, each with its variables.
        variables: all ``V`` variables, flat, in group order.
        cardinalities: number of values of each variable, length ``V``.
        group_columns: for each group the columns of ``choices`` that belong to it.

    Raises UserError on a space without groups and on repeated group names.
    """

    def __init__(self, name: str, groups: Sequence[VariableGroup]) -> None:
        self.name = name
        self.groups = tuple(groups)
        group_names = [group.name for group in self.groups]
        if not group_names:
            raise UserError(f"Space '{name}' has no groups; it needs at least one.")
        if len(set(group_names)) < len(group_names):
            raise UserError(f"Space '{name}' repeats a group name: {', '.join(group_names)}.")
        self.variables = tuple(variable for group in self.groups for variable in group.variables)
        self.cardinalities = tuple(variable.cardinality for variable in self.variables)
        columns = iter(range(len(self.variables)))
        self.group_columns = tuple(
            tuple(itertools.islice(columns, len(group.variables))) for group in self.groups
        )

    @classmethod
    def from_variables(cls, name: str, groups: Sequence[Sequence[Sequence[Any]]]) -> SearchSpace:
        """A space from plain lists: groups of variables of values.

        ``from_variables("toy", [[[3, 5], [16, 24, 32]], [[3, 5]]])`` has two groups, the first with
        two variables. Groups are named ``group0``, ..., variables ``variable0``, ...
        """
        return SearchSpace(
            name,
            [
                VariableGroup(
                    f"group{i}",
                    tuple(SearchVariable(f"variable{j}", tuple(v)) for j, v in enumerate(group)),
                )
                for i, group in enumerate(groups)
            ],
        )

    @property
    def num_architectures(self) -> int:
        """Raw product of all cardinalities (an exact Python int: it reaches 1e36)."""
        return math.prod(self.cardinalities)

    @property
    def num_joint_parameters(self) -> int:
        """Architecture parameters of a joint distribution: one for each combination of a group."""
        return sum(group.num_combinations for group in self.groups)

    @property
    def num_factorized_parameters(self) -> int:
        """Architecture parameters of a factorised distribution: one for each value."""
        return sum(self.cardinalities)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` architectures drawn uniformly, LongTensor[n, V]."""
        columns = [torch.randint(c, (n,), generator=generator) for c in self.cardinalities]
        return torch.stack(columns, dim=1)

    def decode(self, choices: Tensor | Sequence[int]) -> list[dict[str, Any]]:
        """The values that ``choices[V]`` names: for each group a dict from variable to value."""
        row = torch.as_tensor(choices)
        if row.dim() != 1:
            raise UserError(
                f"Space '{self.name}' decodes one architecture of {len(self.variables)} choices; "
                f"found a tensor of shape {tuple(row.shape)}."
            )
        self.check(row)
        indices = iter(row.tolist())
        return [
            {variable.name: variable.values[next(indices)] for variable in group.variables}
            for group in self.groups
        ]

    def check(self, choices: Tensor) -> None:
        """Raise UserError unless ``choices`` is int64 [V] or [K, V] with every index in range."""
        if not isinstance(choices, Tensor) or choices.dtype != torch.int64:
            found = choices.dtype if isinstance(choices, Tensor) else type(choices).__name__
            raise UserError(
                f"Choices in space '{self.name}' must be an int64 tensor, found {found}."
            )
        if choices.dim() not in (1, 2) or choices.shape[-1] != len(self.variables):
            raise UserError(
                f"Choices in space '{self.name}' have shape (V,) or (K, V) with "
                f"V = {len(self.variables)}; found {tuple(choices.shape)}."
            )
        limits = torch.tensor(self.cardinalities, device=choices.device)
        bad = (choices < 0) | (choices >= limits)
        if bad.any():
            position = bad.nonzero()[0]
            column = int(position[-1])
            paths = [f"{group.name}.{v.name}" for group in self.groups for v in group.variables]
            raise UserError(
                f"Choice {int(choices[tuple(position)])} of variable {column} "
                f"('{paths[column]}') in space '{self.name}' is out of range; "
                f"valid: 0 to {self.cardinalities[column] - 1}."
            )

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}('{self.name}': {len(self.groups)} groups, "
            f"{len(self.variables)} variables, {self.num_architectures:.3g} architectures)"
        )
