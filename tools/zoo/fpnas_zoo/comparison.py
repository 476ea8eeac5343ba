"""Networks that were trained alike: found ones, references, random ones; comparison.yaml."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import yaml

from fpnas.report.figures import Points, scatter
from fpnas.utils.file_io import atomic_write
from fpnas.utils.records import to_plain
from fpnas_zoo.checkout import TABLES, read_table

_HEADER = "# Networks that were trained alike here; written by benchmarks/accuracy.py record.\n"
#: The file of all comparisons.
COMPARISONS = TABLES / "comparison.yaml"
_RANDOM = re.compile(r"(random-.+)-\d+")  # its last number is the seed of the architecture
_OURS, _RANDOM_FAMILY = "FP-NAS", "random"


@dataclass(frozen=True)
class Trained:
    """One training.

    Attributes:
        network: name; ``random-6m-0`` is the random network of seed 0 within 6 MFLOPs.
        flops: multiply-adds.
        params: weights of convolutions and linear layers.
        seed: of the training.
        top1: accuracy on the test images, percent.
    """

    network: str
    flops: int
    params: int
    seed: int
    top1: float


@dataclass(frozen=True)
class Comparison:
    """Trainings that differ by nothing but their network and their seed.

    Attributes:
        recipe: as ``--config-file`` takes it.
        dataset: the images, in words.
        input_size: px.
        epochs: of each training.
        trained: in any order.
    """

    recipe: str
    dataset: str
    input_size: int
    epochs: int
    trained: tuple[Trained, ...]

    def rows(self) -> list[Row]:
        """One for each network, one for all random networks of a budget; the cheapest first."""
        return _rows((_without_seed(one.network), one) for one in self.trained)


@dataclass(frozen=True)
class Row:
    """What several trainings came to.

    ``networks`` and ``trainings`` are their numbers; ``flops`` and ``params`` means over the
    trainings; ``top1`` the mean accuracy, ``best`` the highest and ``spread`` the standard
    deviation, None for one training.
    """

    name: str
    networks: int
    trainings: int
    flops: float
    params: float
    top1: float
    spread: float | None
    best: float

    @classmethod
    def of(cls, name: str, trained: list[Trained]) -> Row:
        top1 = [one.top1 for one in trained]
        return cls(
            name=name,
            networks=len({one.network for one in trained}),
            trainings=len(trained),
            flops=mean(one.flops for one in trained),
            params=mean(one.params for one in trained),
            top1=mean(top1),
            spread=stdev(top1) if len(top1) > 1 else None,
            best=max(top1),
        )


def networks_of(trained: Iterable[Trained]) -> list[Row]:
    """A row for each network; the cheapest first."""
    return _rows((one.network, one) for one in trained)


def _rows(trained: Iterable[tuple[str, Trained]]) -> list[Row]:
    """A row for each name; the cheapest first."""
    groups: dict[str, list[Trained]] = {}
    for name, one in trained:
        groups.setdefault(name, []).append(one)
    rows = (Row.of(name, group) for name, group in groups.items())
    return sorted(rows, key=lambda row: (row.flops, row.name))


def _without_seed(network: str) -> str:
    match = _RANDOM.fullmatch(network)
    return match[1] if match else network


@dataclass(frozen=True)
class _Comparisons:
    """Contents of ``comparison.yaml``."""

    comparisons: tuple[Comparison, ...]


def comparisons(path: Path = COMPARISONS) -> tuple[Comparison, ...]:
    """All of them. Raises ConfigError on a file that cannot be used."""
    return read_table(_Comparisons, path).comparisons


def record_trainings(path: Path, new: Comparison) -> None:
    """Add the trainings of ``new`` to the file; one of a network and seed that it has is replaced.

    Raises ConfigError on a file that cannot be used, which then stays as it is.
    """
    known = list(comparisons(path)) if path.exists() else []
    for i, old in enumerate(known):
        if dataclasses.replace(old, trained=()) == dataclasses.replace(new, trained=()):
            known[i] = dataclasses.replace(new, trained=_merged((*old.trained, *new.trained)))
            break
    else:
        known.append(dataclasses.replace(new, trained=_merged(new.trained)))
    plain = to_plain(_Comparisons(tuple(known)))
    with atomic_write(path) as file:
        file.write((_HEADER + yaml.safe_dump(plain, sort_keys=False)).encode())


def _merged(trained: Iterable[Trained]) -> tuple[Trained, ...]:
    by_name = {(one.network, one.seed): one for one in trained}
    return tuple(sorted(by_name.values(), key=lambda one: (one.flops, one.network, one.seed)))


def draw_networks(networks: Sequence[Row]) -> str:
    """Accuracy against FLOPs as an ``<svg>``, one point a network.

    Networks whose names begin with ``fp_nas`` are one family, ``random-…`` another; of the rest,
    those with the same name before its first hyphen.
    """
    families: dict[str, list[tuple[float, float, str]]] = {}
    for row in networks:
        point = (row.flops / 1e6, row.top1, row.name)
        families.setdefault(_family(row.name), []).append(point)
    groups = [
        Points(family, tuple(sorted(points)), joined=family != _RANDOM_FAMILY)
        for family, points in families.items()
    ]
    groups.sort(key=lambda group: group.label != _OURS)
    axes = ("multiply-adds, M", "top-1, %, mean over the trainings")
    return scatter("Accuracy against FLOPs", *axes, groups, log_x=True)


def _family(network: str) -> str:
    return _OURS if network.startswith("fp_nas") else network.partition("-")[0]
