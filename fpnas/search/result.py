"""What a search returns: an architecture within budget, and the distribution it came from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from fpnas.errors import CheckpointError
from fpnas.search.distribution import DISTRIBUTIONS, ArchitectureDistribution
from fpnas.spaces.space import SearchSpace, SearchVariable, VariableGroup
from fpnas.utils.checkpoint import read_checkpoint
from fpnas.utils.file_io import atomic_write

_FORMAT = 1
_PLAIN_FIELDS = (
    "choices",
    "cost",
    "target",
    "log_prob",
    "proven",
    "log_prob_bound",
    "history",
)
# Share of the uniform entropy above which a search has not decided anything.
_UNDECIDED = 0.95
#: What a user with few images should do instead.
PRETRAINED_WAY = (
    "On few images a search that starts from a pretrained network is better than one from scratch: "
    "fpnas search --model efficientnet_lite0 DATA.ROOT photos SEARCH.TARGET 100e6"
)


@dataclass(frozen=True)
class Candidate:
    """One of the most probable architectures, whether within budget or not."""

    choices: Tensor  # int64 [V]
    log_prob: float
    cost: float


@dataclass(frozen=True)
class Finalist:
    """A promising architecture that was trained for a while on its own."""

    choices: Tensor  # int64 [V]
    cost: float
    losses: tuple[float, ...]  # on the validation half, after each round that it took part in


@dataclass(frozen=True)
class SearchResult:
    """The outcome of a search; saved and loaded as one file, with a summary for people next to it.

    Attributes:
        choices: the architecture found, int64 [V]; its cost is at most the target.
        cost: its cost, in the units of the cost function (0 without one).
        target: the budget; inf without one.
        log_prob: log P(choices | alpha).
        proven: it is the most probable architecture within budget.
        log_prob_bound: no architecture within budget has a larger log-probability than this.
        candidates: the most probable architectures with their costs; the first is the mode.
        distribution: P(A | alpha), which can be sampled and scored.
        history: scalars of every step (see :class:`~fpnas.search.searcher.ArchitectureSearcher`).
        finalists: what was trained on its own for the last word, SEARCH.FINALISTS; the best of them
            is ``choices``.
    """

    choices: Tensor
    cost: float
    target: float
    log_prob: float
    proven: bool
    log_prob_bound: float
    candidates: tuple[Candidate, ...]
    distribution: ArchitectureDistribution
    history: dict[str, list[float]]
    finalists: tuple[Finalist, ...] = ()

    @property
    def space(self) -> SearchSpace:
        """The space that was searched (after loading without one: its combinatorial part)."""
        return self.distribution.space

    @property
    def num_samples(self) -> int:
        """Architectures evaluated in the whole search."""
        return int(sum(self.history.get("num_samples", ())))

    @property
    def entropy(self) -> float:
        """Entropy of the final distribution, nats."""
        return float(self.distribution.entropy())

    @property
    def uniform_entropy(self) -> float:
        """Entropy of the uniform distribution over the space, nats."""
        return math.log(self.space.num_architectures)

    @property
    def note(self) -> str:
        """A warning if the distribution has hardly moved, else ""."""
        if self.entropy <= _UNDECIDED * self.uniform_entropy or not self.uniform_entropy:
            return ""
        return (
            f"The search has hardly learned: {self.entropy:.2f} of {self.uniform_entropy:.2f} nats "
            "of entropy are left, so this architecture is little better than a random one within "
            f"the budget. It needs more steps. {PRETRAINED_WAY}"
        )

    def summary(self) -> dict[str, Any]:
        """The result as plain values, in the order in which a person wants to read it."""
        return {
            "space": self.space.name,
            "architecture": self._decode(self.choices),
            "choices": self.choices.tolist(),
            "cost": self.cost,
            "target": _finite(self.target),
            "probability": math.exp(self.log_prob),
            "log_prob": self.log_prob,
            "most_probable_within_budget": "proven" if self.proven else "not proven",
            "log_prob_bound": _finite(self.log_prob_bound),
            "entropy_nats": self.entropy,
            "iterations": len(self.history.get("entropy", ())),
            "samples": self.num_samples,
            "most_probable": [
                {
                    "choices": c.choices.tolist(),
                    "log_prob": c.log_prob,
                    "cost": c.cost,
                    "within_budget": c.cost <= self.target,
                }
                for c in self.candidates
            ],
            **({"finalists": self._finalists()} if self.finalists else {}),
        }

    def _finalists(self) -> list[dict[str, Any]]:
        return [
            {"choices": f.choices.tolist(), "cost": f.cost, "losses": list(f.losses)}
            for f in self.finalists
        ]

    def save(self, path: str | Path) -> None:
        """Write ``path`` (.pth, everything) and the summary next to it (.yaml), each atomically."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "format": _FORMAT,
            "space": {
                "name": self.space.name,
                "groups": [
                    [g.name, [[v.name, [_plain(x) for x in v.values]] for v in g.variables]]
                    for g in self.space.groups
                ],
            },
            "distribution": self.distribution.name,
            "model": self.distribution.state_dict(),
            **{name: getattr(self, name) for name in _PLAIN_FIELDS},
            "candidates": [[c.choices.clone(), c.log_prob, c.cost] for c in self.candidates],
            "finalists": [[f.choices.clone(), f.cost, list(f.losses)] for f in self.finalists],
        }
        summary = yaml.safe_dump(self.summary(), sort_keys=False, default_flow_style=None)
        with atomic_write(path) as file:
            torch.save(content, file)
        with atomic_write(path.with_suffix(".yaml")) as file:
            file.write(summary.encode())

    @classmethod
    def load(cls, path: str | Path, space: SearchSpace | None = None) -> SearchResult:
        """Read a saved result; nothing in the file is executed.

        Args:
            path: the .pth file.
            space: the space that was searched, so that ``result.space`` is that very object. None:
                a plain SearchSpace is rebuilt from the file.

        Raises CheckpointError on a file that is missing, damaged or of another space.
        """
        content = read_checkpoint(path)
        if content.get("format") != _FORMAT:
            raise CheckpointError(
                f"'{path}' is no search result of format {_FORMAT}, the one that this version "
                f"reads; found format {content.get('format')}."
            )
        try:
            return cls._from_content(content, space, path)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"'{path}' is no complete search result: {error!r}.") from error

    @classmethod
    def _from_content(
        cls, content: dict[str, Any], space: SearchSpace | None, path: str | Path
    ) -> SearchResult:
        saved = SearchSpace(
            content["space"]["name"],
            [
                VariableGroup(name, tuple(SearchVariable(v, tuple(x)) for v, x in variables))
                for name, variables in content["space"]["groups"]
            ],
        )
        space = space or saved
        parts = attrgetter("name", "cardinalities", "group_columns")
        if parts(space) != parts(saved):
            raise CheckpointError(f"'{path}' is a result in {saved!r}, not in {space!r}.")
        distribution = DISTRIBUTIONS[content["distribution"]](space)
        distribution.load_state_dict(content["model"])
        return cls(
            **{name: content[name] for name in _PLAIN_FIELDS},
            candidates=tuple(Candidate(*c) for c in content["candidates"]),
            distribution=distribution,
            finalists=tuple(
                Finalist(choices, cost, tuple(losses))
                for choices, cost, losses in content.get("finalists", ())
            ),
        )

    def _decode(self, choices: Tensor) -> dict[str, dict[str, Any]]:
        return {
            group.name: {name: _plain(value) for name, value in values.items()}
            for group, values in zip(self.space.groups, self.space.decode(choices), strict=True)
        }


def _plain(value: Any) -> Any:
    """Numbers and text as they are, anything else as its text, so that files hold plain values."""
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
