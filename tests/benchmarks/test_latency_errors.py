"""How well tables of block latencies predict networks, on times made up."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fpnas.archs import Architecture
from fpnas.blocks import BlockShape, ConvSpec, HeadSpec
from fpnas.errors import UserError
from fpnas.latency import LatencyTable
from fpnas.spaces import BlockGroup, NetworkSpace

FOLDER = Path(__file__).parents[2] / "benchmarks"
OVERHEAD = 0.5


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As when one of the scripts runs; their modules are forgotten afterwards."""
    monkeypatch.syspath_prepend(FOLDER)
    yield
    for name in ("latency_table", "latency_errors"):
        sys.modules.pop(name, None)


@pytest.fixture
def space() -> NetworkSpace:
    """Eight networks."""
    groups = [
        BlockGroup({"expansion": (1, 2.0), "channels": (8, 16)}, 2, 2),
        BlockGroup({"channels": (8, 24)}),
    ]
    return NetworkSpace("eight", 9, ConvSpec(8), groups, HeadSpec(32, num_classes=4))


class FakeTimer:
    """Times that follow from a block's numbers; a network takes 0.25 ms more than its blocks."""

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads

    def describe(self) -> dict[str, str]:
        return {"cpu": "fake", "threads": str(self.threads), "runtime": "fake 1"}

    def overhead(self) -> float:
        return OVERHEAD

    def blocks(self, shapes: Sequence[BlockShape]) -> list[float]:
        return [OVERHEAD + own_ms(shape) for shape in shapes]

    def networks(self, archs: Sequence[Architecture], input_size: int) -> list[float]:
        layers = [arch.layers(input_size) for arch in archs]
        return [0.25 + sum(own_ms(BlockShape(*layer[1:4])) for layer in rows) for rows in layers]


def own_ms(shape: BlockShape) -> float:
    if shape.is_identity:
        return 0.0
    return 1e-5 * shape.in_channels * shape.spec.channels + 1e-4 * shape.in_size**2


def test_error_report_finds_the_constant_part_of_networks(space):
    from latency_errors import error_report

    report = error_report(LatencyTable(timer=FakeTimer()), space, n=12)
    assert len(report.sums) == len(report.measured) == 12
    assert report.intercept_ms == pytest.approx(0.25, abs=1e-6)  # of FakeTimer.networks
    assert report.with_intercept.p90 == pytest.approx(0, abs=1e-3)
    assert report.plain.mean_signed < -1 and report.intercept_helps
    assert report.rank_correlation == pytest.approx(1)  # though some networks are drawn twice


def test_compare_by_hand():
    from latency_errors import compare

    report = compare([1.0, 2.0, 4.0], [2.0, 4.0, 2.0])
    assert report.plain.median == pytest.approx(50)
    assert report.plain.mean_signed == pytest.approx((-50 - 50 + 100) / 3)
    assert report.intercept_ms == 1  # median of 1, 2, -2
    # Intercepts without the network itself: 0, -0.5, 1.5.
    assert report.with_intercept.median == pytest.approx(100 * 2.5 / 4)
    assert report.rank_correlation == pytest.approx((1 - 1) / math.sqrt(3 * 2))
    assert compare([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]).rank_correlation == pytest.approx(-1)


def test_error_report_needs_networks(space):
    from latency_errors import error_report

    with pytest.raises(UserError, match="at least 3"):
        error_report(LatencyTable(timer=FakeTimer()), space, n=2)


def test_benchmark_prints_and_keeps_the_table(monkeypatch, tmp_path, capsys):
    import latency_table

    monkeypatch.setattr("fpnas.latency.table.OnnxTimer", FakeTimer)
    path = tmp_path / "out.json"
    arguments = ["--table", str(path), "--architectures", "4", "--input-size", "28"]
    latency_table.main([*arguments, "--all-blocks"])
    printed = capsys.readouterr().out
    assert "sum of blocks" in printed and "Kendall" in printed
    content = json.loads(path.read_text())
    assert content["intercept_ms"] == pytest.approx(0.25, abs=1e-6)
    assert "4 networks of FP-NAS-Micro at 28 px" in content["intercept_source"]
