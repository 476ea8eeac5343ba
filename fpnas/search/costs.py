"""What a budget may count: multiply-adds, weights, or measured milliseconds."""

from __future__ import annotations

from collections.abc import Iterable

from fpnas.config import CfgNode
from fpnas.errors import BudgetError, ConfigError
from fpnas.evaluation.latency_table import LatencyTable
from fpnas.search.budget import Cost, cost_range
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
    if comm.get_world_size() > 1:  # all processes must read equal numbers
        if comm.is_main_process():
            LatencyTable(path, cfg.SEARCH.LATENCY_THREADS).measure(space)
        comm.synchronize()
    return LatencyTable(path, cfg.SEARCH.LATENCY_THREADS).cost(space)


def check_targets(space: NetworkSpace, name: str, cost: Cost, targets: Iterable[float]) -> None:
    """Raise BudgetError, with the reachable range, if no architecture meets one of ``targets``."""
    if name == "latency":
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
