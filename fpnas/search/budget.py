"""The budgets of a search, and what they may count: multiply-adds, weights or milliseconds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch

from fpnas.config import CfgNode
from fpnas.errors import BudgetError, ConfigError, UserError
from fpnas.latency import LatencyTable, SpaceLatency
from fpnas.search.costs import NUM_PROBES, CostFunction, cost_range, evaluate_cost
from fpnas.spaces import NetworkSpace
from fpnas.utils import comm

logger = logging.getLogger(__name__)

COSTS = ("flops", "params", "latency")


@dataclass(frozen=True)
class Budget:
    """A target, in units of SEARCH.COST, and what it limits."""

    target: float
    space: NetworkSpace  # at the input size and number of classes at which costs are counted
    cost: CostFunction


def build_budgets(cfg: CfgNode, space: NetworkSpace) -> tuple[Budget, ...]:
    """What SEARCH.TARGETS, else SEARCH.TARGET, limits in ``space``. Collective.

    Raises as :func:`targets_of`, and BudgetError on a target that nothing meets.
    """
    targets = targets_of(cfg)
    spaces = [space.at(size) for _, size in targets]
    costs = _build_costs(cfg, spaces)
    budgets = tuple(Budget(t, s, c) for (t, _), s, c in zip(targets, spaces, costs, strict=True))
    for budget in budgets:
        check_target(budget.space, cfg.SEARCH.COST, budget.cost, budget.target)
    return budgets


def targets_of(cfg: CfgNode) -> list[tuple[float, int]]:
    """SEARCH.TARGETS, else SEARCH.TARGET alone, each with the input size, px, that it counts at.

    Raises ConfigError on targets, or input sizes of theirs, that cannot be meant.
    """
    search = cfg.SEARCH
    try:
        targets = tuple(float(target) for target in search.TARGETS) or (search.TARGET,)
    except (TypeError, ValueError):
        raise ConfigError(
            f"SEARCH.TARGETS must be a list of numbers, found {search.TARGETS}."
        ) from None
    if len({short_target(search.COST, target) for target in targets}) < len(targets):
        raise ConfigError(f"SEARCH.TARGETS must differ from each other, found {list(targets)}.")
    sizes = list(search.COST_INPUT_SIZES)
    if not sizes:
        sizes = [search.COST_INPUT_SIZE or cfg.DATA.INPUT_SIZE] * len(targets)
    elif len(sizes) != len(targets) or any(type(size) is not int or size < 1 for size in sizes):
        raise ConfigError(
            "SEARCH.COST_INPUT_SIZES must be empty or give a whole number of px for each of "
            f"{len(targets)} targets, found {sizes}."
        )
    return list(zip(targets, sizes, strict=True))


def log_budgets(cfg: CfgNode, budgets: Sequence[Budget]) -> None:
    """Say how much of the space each budget leaves; warn if the search will hardly meet it."""
    unit = unit_of(cfg.SEARCH.COST)
    # A latency has to be measured: take no more samples than the searcher itself will look at.
    count = NUM_PROBES if cfg.SEARCH.COST == "latency" else 4000
    choices = budgets[0].space.sample(count, torch.Generator().manual_seed(0))
    for budget in budgets:
        share = float((budget.cost(choices) <= budget.target).double().mean())
        logger.info(
            "%r; %.1f %% of uniform samples cost at most %.6g %s at %d px",
            *(budget.space, 100 * share, budget.target, unit, budget.space.input_size),
        )
        if share < 0.01:
            logger.warning(
                "The target %.6g %s is rare in %s: most samples will exceed it. A space of smaller "
                "networks ('fpnas analyze --space NAME') would spend the search better.",
                *(budget.target, unit, budget.space.name),
            )


def build_cost(cfg: CfgNode, space: NetworkSpace) -> CostFunction:
    """The function ``choices[K, V] -> [K]`` that SEARCH.COST names, at the input size of ``space``.

    A latency (ms, batch 1, ONNX Runtime on this machine) is looked up in SEARCH.LATENCY_TABLE,
    where every block is kept once it was measured. Collective. Raises ConfigError without a table,
    UserError if the table is of another machine.
    """
    return _build_costs(cfg, [space])[0]


def _build_costs(cfg: CfgNode, spaces: Sequence[NetworkSpace]) -> list[CostFunction]:
    """A cost for each of ``spaces``; measured ones share a table, and with it the file."""
    if cfg.SEARCH.COST != "latency":
        return [space.cost_table(cfg.SEARCH.COST) for space in spaces]
    path = cfg.SEARCH.LATENCY_TABLE
    if not path:
        raise ConfigError(
            "SEARCH.COST latency needs SEARCH.LATENCY_TABLE, the JSON file that keeps the measured "
            "blocks; it is made if it does not exist."
        )
    table = LatencyTable(path, cfg.SEARCH.LATENCY_THREADS)
    if comm.get_world_size() > 1:
        _measure_in_main_process(table, spaces)
        table = LatencyTable(path, cfg.SEARCH.LATENCY_THREADS)
    return [table.cost(space) for space in spaces]


def _measure_in_main_process(table: LatencyTable, spaces: Sequence[NetworkSpace]) -> None:
    """Complete the file of ``table``: all processes must read equal numbers. Collective.

    The others hear of every chunk, since a collective that takes half an hour fails, and of an
    error, which must not leave them waiting.
    """
    chunks = chain.from_iterable(
        table.measure_in_chunks(SpaceLatency(space, table).shapes()) for space in spaces
    )
    outcome: int | UserError | None = 0
    while outcome is not None:
        if comm.is_main_process():
            try:
                outcome = next(chunks, None)
            except UserError as error:
                outcome = error
        outcome = comm.broadcast_object(outcome)
        if isinstance(outcome, UserError):
            raise outcome


def check_target(space: NetworkSpace, name: str, cost: CostFunction, target: float) -> None:
    """Raise BudgetError, with the reachable range, if no architecture meets ``target``."""
    if name == "latency":
        # Finding the range means measuring much of the space; usually a few probes settle it.
        probes = space.sample(64, torch.Generator().manual_seed(0))
        if float(evaluate_cost(cost, probes).min()) <= target:
            return
        lowest, highest = cost_range(space, cost)
    else:
        lowest, highest = space.cost_range(name)
    if target < lowest:
        raise BudgetError(
            f"SEARCH.TARGET is {target:.6g} {unit_of(name)}, less than any architecture of "
            f"{space.name} costs. Reachable at {space.input_size} px and {space.num_classes} "
            f"classes: {lowest:.6g} to {highest:.6g}."
        )


def unit_of(name: str) -> str:
    """The unit of a target: "flops", "params" or "ms"."""
    return "ms" if name == "latency" else name


def short_target(cost: str, target: float) -> str:
    """A target in names of files and architectures: 6e7 FLOPs are ``60M``, 1.5 ms ``1.5ms``."""
    return f"{target:g}ms" if cost == "latency" else f"{target / 1e6:g}M"
