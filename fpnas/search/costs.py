"""What a budget may count: multiply-adds, weights, or measured milliseconds."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fpnas.config import CfgNode
from fpnas.errors import BudgetError, ConfigError, UserError
from fpnas.evaluation.latency_table import LatencyTable
from fpnas.search.budget import Cost, cost_range, evaluate_cost
from fpnas.spaces import NetworkSpace
from fpnas.utils import comm

COSTS = ("flops", "params", "latency")


def build_cost(cfg: CfgNode, space: NetworkSpace) -> Cost:
    """The function ``choices[K, V] -> [K]`` that SEARCH.COST names, at the input size of ``space``.

    A latency (ms, batch 1, ONNX Runtime on this machine) is looked up in SEARCH.LATENCY_TABLE,
    where every block is kept once it was measured. Collective. Raises ConfigError without a table,
    UserError if the table is of another machine.
    """
    if cfg.SEARCH.COST != "latency":
        return getattr(space, cfg.SEARCH.COST)
    path = cfg.SEARCH.LATENCY_TABLE
    if not path:
        raise ConfigError(
            "SEARCH.COST latency needs SEARCH.LATENCY_TABLE, the JSON file that keeps the measured "
            "blocks; it is made if it does not exist."
        )
    table = LatencyTable(path, cfg.SEARCH.LATENCY_THREADS)
    if comm.get_world_size() == 1:
        return table.cost(space)
    # All processes must read equal numbers, so one of them measures the whole space first.
    failure = None
    if comm.is_main_process():
        try:
            table.measure(space)
        except UserError as error:
            failure = error
    failure = comm.broadcast_object(
        failure
    )  # an error in one process must not leave others waiting
    if failure is not None:
        raise failure
    return LatencyTable(path, cfg.SEARCH.LATENCY_THREADS).cost(space)


def check_targets(space: NetworkSpace, name: str, cost: Cost, targets: Sequence[float]) -> None:
    """Raise BudgetError, with the reachable range, if no architecture meets one of ``targets``."""
    if name == "latency":
        # Finding the range means measuring much of the space; usually a few probes settle it.
        probes = space.sample(64, torch.Generator().manual_seed(0))
        if float(evaluate_cost(cost, probes).min()) <= min(targets):
            return
        lowest, highest = cost_range(space, cost)
    else:
        lowest, highest = space.cost_range(name)
    for target in targets:
        if target < lowest:
            raise BudgetError(
                f"SEARCH.TARGET is {target:.6g} {unit_of(name)}, less than any architecture of "
                f"{space.name} costs. Reachable at {space.input_size} px and {space.num_classes} "
                f"classes: {lowest:.6g} to {highest:.6g}."
            )


def unit_of(name: str) -> str:
    """The unit of a target: "flops", "params" or "ms"."""
    return "ms" if name == "latency" else name


def short_target(name: str, target: float) -> str:
    """A target in names of files and architectures: 6e7 FLOPs are ``60M``, 1.5 ms ``1.5ms``."""
    return f"{target:g}ms" if name == "latency" else f"{target / 1e6:g}M"
