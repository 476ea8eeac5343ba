"""The architectures that were searched here: searched.yaml, and how a search enters it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from fpnas.archs import Architecture, get_arch
from fpnas.config import CfgNode, get_cfg
from fpnas.errors import CheckpointError, ConfigError, UserError
from fpnas.model_zoo import SearchCost
from fpnas.search.budget import short_target
from fpnas.spaces import NetworkSpace, get_space
from fpnas_zoo.checkout import CHECKOUT, TABLES, read_table

SEARCHED = TABLES / "searched.yaml"
_FORWARD_BACKWARD = 3  # a backward pass costs about two forward passes
_PROBES = 1000  # random architectures whose mean cost tells two input sizes apart


@dataclass(frozen=True)
class Found:
    """What a search found for one of its targets.

    Attributes:
        arch: name in ARCH_REGISTRY.
        target: multiply-adds that it may cost at its own input size.
        val_loss: cross-entropy of the validation half, with the supernet's weights.
        paper: the paper's network with this target, a ``model`` of paper.yaml.
    """

    arch: str
    target: float
    val_loss: float
    paper: str | None = None

    def build_arch(self) -> Architecture:
        """The architecture."""
        return get_arch(self.arch)


@dataclass(frozen=True)
class Search:
    """One search and all that it found.

    Attributes:
        config: as ``--config-file`` takes it.
        data: the images, in words.
        commit, seed: with which it ran.
        cost: of the whole search.
    """

    config: str
    data: str
    commit: str
    seed: int
    cost: SearchCost
    found: tuple[Found, ...]


@dataclass(frozen=True)
class _Searches:
    """Contents of ``searched.yaml``."""

    searches: tuple[Search, ...]


def searches() -> tuple[Search, ...]:
    """All of them, in the order in which they were adopted."""
    return read_table(_Searches, SEARCHED).searches


def adopt(
    folder: Path,
    config: str,
    data: str,
    names: Sequence[str],
    commit: str,
    checkout: Path = CHECKOUT,
) -> None:
    """Write the architectures of the search in ``folder`` and append it to searched.yaml.

    Args:
        folder: OUTPUT_DIR of a finished search.
        config: its configuration, as ``--config-file`` takes it.
        data: the images, in words.
        names: one for each target, in their order; after '=' the paper's network with that target.
        commit: of fpnas, with which it ran.
        checkout: whose ``fpnas/archs/named`` and ``model_zoo/tables/searched.yaml`` are written.

    Raises a UserError, before anything is written, unless there is one name for each target, none
    of them is taken, and the search is one whose cost :func:`search_cost` knows.
    """
    cfg = get_cfg()
    cfg.merge_from_file(str(folder / "config.yaml"))
    targets = list(cfg.SEARCH.TARGETS) or [cfg.SEARCH.TARGET]
    if len(names) != len(targets):
        raise UserError(f"{len(names)} names for {len(targets)} targets: {targets}.")
    named = checkout / "fpnas" / "archs" / "named"
    files = [named / f"{name.partition('=')[0]}.yaml" for name in names]
    for file in files:
        if file.exists():
            raise UserError(f"'{file}' exists. Remove it and its search in searched.yaml first.")
    found, texts = [], []
    for file, target, name in zip(files, targets, names, strict=True):
        # As the search names the folders of several budgets.
        short = short_target(cfg.SEARCH.COST, target)
        result = folder if len(targets) == 1 else folder / f"target-{short}"
        texts.append(_architecture(result, file.stem, config, cfg))
        paper = name.partition("=")[2]
        entry = {"arch": file.stem, "target": target, "val_loss": _val_loss(result)}
        found.append(entry | ({"paper": paper} if paper else {}))
    search = {"config": config, "data": data, "commit": commit, "seed": cfg.SEED}
    search |= {"cost": dataclasses.asdict(search_cost(folder)), "found": found}
    for file, text in zip(files, texts, strict=True):
        file.write_text(text, encoding="utf-8")
    with (checkout / SEARCHED.relative_to(CHECKOUT)).open("a", encoding="utf-8") as file:
        file.write(yaml.safe_dump([search], sort_keys=False))


def _architecture(result: Path, name: str, config: str, cfg: CfgNode) -> str:
    arch = dataclasses.replace(Architecture.load(result / "architecture.yaml"), name=name)
    if cfg.SEARCH.COST_NUM_CLASSES:
        arch = arch.with_num_classes(cfg.SEARCH.COST_NUM_CLASSES)
    return f"# Found by fpnas search --config-file {config}.\n{arch.to_yaml()}"


def _val_loss(result: Path) -> float:
    """Cross-entropy of the most probable architecture with the supernet's weights, at the end."""
    records = [json.loads(line) for line in (result / "metrics.json").read_text().splitlines()]
    return round([record["mode_loss"] for record in records if "mode_loss" in record][-1], 4)


def search_cost(folder: str | Path) -> SearchCost:
    """Samples, multiply-adds and core hours of the probabilistic search in ``folder``.

    All targets of a search together; samples of the warm-up, which are not rated, count as FLOPs
    only. Steps that were repeated after an interruption count once.
    Core hours are wall times of the steps, of a search by one process with one thread.

    Args:
        folder: OUTPUT_DIR of the search, with config.yaml and metrics.json.

    Raises CheckpointError without these files, ConfigError for a search that counts anything but
    FLOPs.
    """
    folder = Path(folder)
    for name in ("config.yaml", "metrics.json"):
        if not (folder / name).is_file():
            raise CheckpointError(f"'{folder}' holds no search: there is no {name}.")
    cfg = get_cfg()
    cfg.merge_from_file(str(folder / "config.yaml"))
    if cfg.SEARCH.COST != "flops" or cfg.SEARCH.METHOD != "probabilistic":
        raise ConfigError(
            f"'{folder}' is a {cfg.SEARCH.METHOD} search for {cfg.SEARCH.COST}; its cost follows "
            "from the log for a probabilistic search for flops only."
        )
    lines = (folder / "metrics.json").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    steps = {record["iteration"]: record for record in records if "num_samples" in record}
    first_rated = min((n for n, step in steps.items() if "val_loss" in step), default=math.inf)
    shrinkage = _shrinkage(cfg)
    samples, flops, seconds = 0, 0.0, 0.0
    for step in steps.values():
        images = _FORWARD_BACKWARD * cfg.SOLVER.BATCH_SIZE
        if step["iteration"] >= first_rated:
            images += cfg.SEARCH.VAL_BATCH_SIZE
            samples += int(step["num_samples"])
        mean = step["sampled_cost"] * shrinkage[step.get("target", cfg.SEARCH.TARGET)]
        flops += images * step["num_samples"] * mean
        seconds += step.get("time", 0.0)
    return SearchCost(samples, float(f"{flops:.3g}"), round(seconds / 3600, 2))


def _shrinkage(cfg: CfgNode) -> dict[float, float]:
    """For each target: FLOPs at the size of the images over those at which it is counted."""
    search = cfg.SEARCH
    targets = search.TARGETS or [search.TARGET]
    sizes = search.COST_INPUT_SIZES or [search.COST_INPUT_SIZE] * len(targets)
    space = get_space(search.SPACE)
    own = _mean_flops(space, cfg.DATA.INPUT_SIZE)
    return {
        target: own / _mean_flops(space, size) if size else 1.0
        for target, size in zip(targets, sizes, strict=True)
    }


def _mean_flops(space: NetworkSpace, input_size: int) -> float:
    choices = space.sample(_PROBES, torch.Generator().manual_seed(0))
    return float(space.at(input_size).flops(choices).double().mean())
