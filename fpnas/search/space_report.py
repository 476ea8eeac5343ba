"""A search space as tables of text."""

from __future__ import annotations

import inspect
import itertools
import math
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor

from fpnas.search.estimator import AdaptiveSampling
from fpnas.spaces import SPACE_REGISTRY, NetworkSpace
from fpnas.spaces.paper import PAPER_FIGURES, PaperFigures

_PAPER_LAMBDA = 0.25


def space_report(space: NetworkSpace, samples: int = 4000, seed: int = 0) -> str:
    """The choices of a space, group by group, and its figures beside the paper's.

    Args:
        space: at the input size that the costs are wanted for.
        samples: architectures drawn uniformly for the median costs.
        seed: of these draws.
    """
    paper = PAPER_FIGURES.get(space.name)
    is_named = space.name in SPACE_REGISTRY
    description = inspect.getdoc(SPACE_REGISTRY.get(space.name)) if is_named else None
    parts = [
        f"{space.name}: {space.input_size} px, {space.num_classes} classes",
        *([description] if description else []),
        _groups_table(space),
        _counts_table(space, paper),
        _costs_table(space, samples, seed, paper),
    ]
    if paper:
        parts.append(f"The paper's figures: {paper.source}.")
    return "\n\n".join(parts)


def _groups_table(space: NetworkSpace) -> str:
    names = list(dict.fromkeys(variable.name for variable in space.variables))
    rows = []
    for group, blocks in zip(space.groups, space.block_groups, strict=True):
        values = {variable.name: _shorten(variable.values) for variable in group.variables}
        chosen = [values.get(name, "") for name in names]
        rows.append([group.name, blocks.repeats, blocks.stride, *chosen, group.num_combinations])
    return tabulate(
        rows, ["group", "blocks", "stride", *names, "combinations"], disable_numparse=True
    )


def _shorten(values: tuple[Any, ...]) -> str:
    """``16..40 step 8`` for evenly spaced numbers, else the values themselves."""
    numbers = all(type(value) in (int, float) for value in values)
    if numbers and len(values) > 3:
        step = values[1] - values[0]
        if all(math.isclose(b - a, step) for a, b in itertools.pairwise(values)):
            return f"{values[0]}..{values[-1]} step {step}"
    return " ".join(str(value) for value in values)


def _counts_table(space: NetworkSpace, paper: PaperFigures | None) -> str:
    entropy = math.log(space.num_architectures)
    first_samples = AdaptiveSampling(_PAPER_LAMBDA).num_samples(entropy)
    printed_count = f"{paper.num_architectures:.0e}" if paper else ""
    printed_blocks = paper.num_blocks or "" if paper else ""
    rows = [
        ["architectures (raw product)", f"{space.num_architectures:.3g}", printed_count],
        ["distinct networks", f"{space.num_distinct:.3g}", ""],
        ["entropy of the uniform distribution, nats", f"{entropy:.2f}", ""],
        [f"samples a step at that entropy, lambda {_PAPER_LAMBDA}", first_samples, ""],
        ["parameters of the joint distribution", space.num_joint_parameters, ""],
        ["parameters of the factorised distribution", space.num_factorized_parameters, ""],
        ["blocks", space.num_blocks, printed_blocks],
    ]
    return tabulate(rows, ["", "ours", "the paper's"], disable_numparse=True)


def _costs_table(space: NetworkSpace, samples: int, seed: int, paper: PaperFigures | None) -> str:
    costs = space.costs(space.sample(samples, torch.Generator().manual_seed(seed)))
    # The printed median holds at one input size only.
    comparable = paper and paper.median_flops and paper.input_size == space.input_size
    printed = f"{paper.median_flops / 1e6:g}" if comparable else ""
    rows = [
        ["FLOPs, M", *_least_median_greatest(space, "flops", costs.flops), printed],
        ["params, M", *_least_median_greatest(space, "params", costs.params), ""],
    ]
    headers = ["", "least", f"median of {samples} samples", "greatest", "the paper's median"]
    return tabulate(rows, headers, disable_numparse=True)


def _least_median_greatest(space: NetworkSpace, cost: str, values: Tensor) -> list[str]:
    """In millions; least and greatest are exact, the median is that of ``values[K]``."""
    least, greatest = space.cost_range(cost)
    return [f"{value / 1e6:.4g}" for value in (least, values.median().item(), greatest)]
