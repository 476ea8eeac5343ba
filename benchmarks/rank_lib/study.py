"""What a study of rank correlation compares: its data, its space, its architectures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from random_architectures import uniform_within
from torch import Tensor
from units import claimed, stored

from fpnas.config import CfgNode
from fpnas.data import ImageSet, build_dataset
from fpnas.errors import BudgetError, ConfigError
from fpnas.search.budget import build_cost
from fpnas.search.costs import CostFunction
from fpnas.search.result import SearchResult
from fpnas.spaces import NetworkSpace, build_space
from fpnas.utils.rng import generator_for

_MOST_DRAWS = 1000  # for one that differs from those before


@dataclass(frozen=True)
class Candidate:
    """An architecture that is trained on its own and rated by supernets.

    Attributes:
        name: such as "budget-07"; the part before the dash is the set that it belongs to.
        choices: int64 [V].
        figures: "name", "set", "flops", "params" and the choices, as they are stored.
    """

    name: str
    choices: Tensor
    figures: dict[str, Any]


class Study:
    """The configs of one folder, and what follows from them.

    ``budget`` candidates are drawn uniformly from the space within ``low`` to 1 of the target,
    ``wide`` ones from strata of equal width in log cost, from ``wide_low`` of the target up to it.

    Args:
        folder: of all results.
        cfg: of the supernets.
        train_cfg: of the stand-alone trainings; takes over DATA from ``cfg``.
        low: least cost of a budget candidate, share of the target.
        wide: number of strata.
        wide_low: least cost of a wide candidate, share of the target.

    Raises ConfigError if the folder holds results of other configs.
    """

    def __init__(
        self,
        folder: Path,
        cfg: CfgNode,
        train_cfg: CfgNode,
        low: float = 0.95,
        wide: int = 0,
        wide_low: float = 0.3,
    ) -> None:
        self.folder = folder
        self.cfg = cfg
        self.train_cfg = train_cfg
        self.train_cfg.DATA = cfg.DATA.clone()
        self._low, self._wide, self._wide_low = low, wide, wide_low
        self._check_same_study()

    @cached_property
    def train_images(self) -> ImageSet:
        """Of the stand-alone trainings; the supernets divide them."""
        return build_dataset(self.cfg, "train")

    @cached_property
    def test_images(self) -> ImageSet:
        """Which no training sees."""
        return build_dataset(self.cfg, "test")

    @cached_property
    def space(self) -> NetworkSpace:
        """Costs are those of the images' size and classes."""
        size, classes = self.cfg.DATA.INPUT_SIZE, len(self.train_images.classes)
        return build_space(self.cfg).at(size, classes)

    @cached_property
    def cost(self) -> CostFunction:
        """What the target limits."""
        return build_cost(self.cfg, self.space)

    @cached_property
    def extremes(self) -> Tensor:
        """The architectures [2, V] of fewest and of most FLOPs."""
        return torch.stack([_extreme(self.space, -1), _extreme(self.space, 1)])

    def candidates(self, budget: int) -> list[Candidate]:
        """``budget`` candidates within budget, then the wide ones.

        More of them begin with the fewer.
        """
        target, seed = self.cfg.SEARCH.TARGET, self.cfg.SEED
        within = self._distinct(self._low * target, target, budget, generator_for(seed, "budget"))
        named = [(f"budget-{i:02d}", choices) for i, choices in enumerate(within)]
        edges = torch.logspace(math.log10(self._wide_low), 0, self._wide + 1, dtype=torch.float64)
        for i in range(self._wide):
            low, high = (target * edges[i : i + 2]).tolist()
            [choices] = self._distinct(low, high, 1, generator_for(seed, "wide", i))
            named.append((f"wide-{i:02d}", choices))
        return [self._candidate(name, choices) for name, choices in named]

    def found(self, files: Sequence[Path]) -> list[Candidate]:
        """What searches found, from their search_result.pth files, named by a hash of the choices.

        Raises CheckpointError if a file is damaged or of a search in another space.
        """
        found = [SearchResult.load(file, self.space).choices for file in files]
        digests = [sha256(str(choices.tolist()).encode()).hexdigest()[:6] for choices in found]
        return [self._candidate(f"found-{d}", c) for d, c in zip(digests, found, strict=True)]

    def uniform(self, low: float, high: float, generator: torch.Generator) -> Iterator[Tensor]:
        """Endless architectures [V], uniform among those of the space that cost low to high.

        Raises BudgetError if it finds none for a long time.
        """
        return uniform_within(self.space, self.cost, low, high, generator)

    def _distinct(
        self, low: float, high: float, count: int, generator: torch.Generator
    ) -> list[Tensor]:
        """Architectures that differ as networks, also where a skip ignores other choices."""
        found: dict[Any, Tensor] = {}
        for choices in islice(self.uniform(low, high, generator), _MOST_DRAWS * count):
            found.setdefault(self.space.architecture(choices), choices)
            if len(found) == count:
                return list(found.values())
        raise BudgetError(
            f"{self.space.name} has hardly {count} networks that cost {low:.6g} to {high:.6g} "
            f"{self.cfg.SEARCH.COST}; found {len(found)}."
        )

    def _candidate(self, name: str, choices: Tensor) -> Candidate:
        figures = {
            "name": name,
            "set": name.partition("-")[0],
            "flops": int(self.space.flops(choices[None])),
            "params": int(self.space.params(choices[None])),
            "choices": choices.tolist(),
        }
        return Candidate(name, choices, figures)

    def _check_same_study(self) -> None:
        """Store what all results depend on, or compare it with what is stored."""
        wide = f"{self._wide} strata from {self._wide_low} of the target"
        described = {
            "supernets": _without_places(self.cfg),
            "trainings": _without_places(self.train_cfg),
            "candidates": f"from {self._low} of the target; {wide}",
        }
        with claimed(self.folder):  # two processes that start together store the same
            known = stored(self.folder / "study.json", lambda: described)
        for part, text in described.items():
            if known[part] != text:
                raise ConfigError(
                    f"{self.folder} holds a study whose {part} differ from what is asked for "
                    "(study.json); choose another --output-dir, or the same options."
                )


def _without_places(cfg: CfgNode) -> str:
    cfg = cfg.clone()
    cfg.OUTPUT_DIR = cfg.DATA.ROOT = ""
    return cfg.dump()


def _extreme(space: NetworkSpace, sign: int) -> Tensor:
    """The architecture [V] of most FLOPs (``sign`` 1) or fewest (-1), variable by variable."""
    cardinalities = torch.tensor(space.cardinalities)
    choices = cardinalities - 1 if sign > 0 else torch.zeros_like(cardinalities)
    for variable, cardinality in enumerate(space.cardinalities):
        rivals = choices.repeat(cardinality, 1)
        rivals[:, variable] = torch.arange(cardinality)
        flops = sign * space.flops(rivals)
        if flops.max() > flops[choices[variable]]:
            choices = rivals[flops.argmax()]
    return choices


def take(architectures: Iterator[Tensor], count: int) -> Tensor:
    """The next ``count`` of them, [count, V]."""
    return torch.stack(list(islice(architectures, count)))
