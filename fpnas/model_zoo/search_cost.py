"""What a finished search took, from the files that it left."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch

from fpnas.config import CfgNode, get_cfg
from fpnas.errors import CheckpointError, ConfigError
from fpnas.model_zoo.record import SearchCost
from fpnas.spaces import NetworkSpace, get_space

_FORWARD_BACKWARD = 3  # a backward pass costs about two forward passes
_PROBES = 1000  # random architectures whose mean cost tells two input sizes apart


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
