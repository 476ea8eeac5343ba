"""What a budget may count, and the latency table in a run of several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest
import torch
from torch import Tensor

from fpnas.blocks import BlockShape
from fpnas.config import CfgNode, get_cfg
from fpnas.errors import BudgetError, UserError
from fpnas.search import budget
from fpnas.search.budget import build_cost, check_target
from fpnas.spaces import get_space
from fpnas.utils import comm

SPACE = get_space("FP-NAS-Micro").at(8, 3)


def latency_cfg() -> CfgNode:
    cfg = get_cfg()
    cfg.SEARCH.COST, cfg.SEARCH.LATENCY_TABLE = "latency", "blocks.json"
    return cfg


class UnmeasurableTable:
    def __init__(self, path: str, threads: int) -> None:
        pass

    def measure_in_chunks(self, shapes: Iterable[BlockShape]) -> Iterator[int]:
        raise UserError("the block cannot be exported")
        yield


@pytest.mark.parametrize("name", ["flops", "params"])
def test_counted_costs_are_those_of_the_space(name: str) -> None:
    cfg = get_cfg()
    cfg.SEARCH.COST = name
    choices = SPACE.sample(5, torch.Generator().manual_seed(0))
    assert torch.equal(build_cost(cfg, SPACE)(choices), getattr(SPACE, name)(choices))


@pytest.mark.parametrize("rank", [0, 1])
def test_failed_measurement_reaches_every_process(
    rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[UserError | None] = []

    def broadcast(value: UserError | None) -> UserError | None:
        sent.append(value)
        return value if rank == 0 else UserError("the block cannot be exported")

    monkeypatch.setattr(budget, "LatencyTable", UnmeasurableTable)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "is_main_process", lambda: rank == 0)
    monkeypatch.setattr(comm, "broadcast_object", broadcast)
    with pytest.raises(UserError, match="cannot be exported"):
        build_cost(latency_cfg(), SPACE)
    assert len(sent) == 1  # both processes took part


class ChunkTable:
    """Measures its blocks in three chunks."""

    def __init__(self, path: str, threads: int) -> None:
        pass

    def measure_in_chunks(self, shapes: Iterable[BlockShape]) -> Iterator[int]:
        yield from (32, 32, 5)

    def cost(self, space: object) -> None:
        return None


def test_waiting_processes_hear_of_every_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[object] = []
    monkeypatch.setattr(budget, "LatencyTable", ChunkTable)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "broadcast_object", lambda value: sent.append(value) or value)
    build_cost(latency_cfg(), SPACE)
    assert sent == [32, 32, 5, None]


def counting_latency(calls: list[int]) -> Callable[[Tensor], Tensor]:
    def latency(choices: Tensor) -> Tensor:
        calls.append(len(choices))
        return SPACE.flops(choices) / 1e6

    return latency


def test_ordinary_latency_target_costs_a_few_probes_only() -> None:
    calls: list[int] = []
    check_target(SPACE, "latency", counting_latency(calls), 10.0)
    assert calls == [64]


def test_unreachable_latency_prints_the_range() -> None:
    lowest, highest = (value / 1e6 for value in SPACE.cost_range())
    with pytest.raises(BudgetError, match=f"{lowest:.6g} to {highest:.6g}"):
        check_target(SPACE, "latency", counting_latency([]), lowest / 2)
