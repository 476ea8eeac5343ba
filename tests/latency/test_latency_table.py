from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from fpnas.archs import Architecture
from fpnas.blocks import BlockShape, ConvSpec, HeadSpec, MBConvSpec, SkipSpec
from fpnas.errors import UserError
from fpnas.latency import LatencyTable
from fpnas.spaces import BlockGroup, NetworkSpace, get_space

OVERHEAD = 0.5


class FakeTimer:
    """Times that follow from a block's numbers, and a record of what was measured."""

    def __init__(self, threads: int = 1, fail_after: float = math.inf) -> None:
        self.threads = threads
        self.fail_after = fail_after
        self.measured: list[BlockShape] = []
        self.overheads = 0

    def describe(self) -> dict[str, str]:
        return {"cpu": "fake", "threads": str(self.threads), "runtime": "fake 1"}

    def overhead(self) -> float:
        self.overheads += 1
        return OVERHEAD

    def blocks(self, shapes: Sequence[BlockShape]) -> list[float]:
        if len(self.measured) >= self.fail_after:
            raise KeyboardInterrupt
        self.measured += shapes
        return [OVERHEAD + own_ms(shape) for shape in shapes]

    def networks(self, archs: Sequence[Architecture], input_size: int) -> list[float]:
        return [0.25 + exact_latency(arch) for arch in archs]


def own_ms(shape: BlockShape) -> float:
    """Different for blocks that differ in any number; nothing for an identity."""
    spec, area = shape.spec, shape.in_size**2
    if isinstance(spec, SkipSpec) and spec.is_identity(shape.in_channels):
        return 0.0
    extra = sum(len(str(v)) for v in vars(spec).values()) + getattr(spec, "kernel", 0)
    return round(1e-3 * extra + 1e-5 * shape.in_channels * spec.channels + 1e-4 * area, 7)


@pytest.fixture
def space() -> NetworkSpace:
    """Two groups that depend on each other through their channels, with skips and repeats."""
    return NetworkSpace(
        "two-groups",
        input_size=9,
        stem=ConvSpec(channels=8),
        block_groups=[
            BlockGroup({"kernel": (0, 3), "expansion": (1, 2.0), "channels": (8, 16)}, 2, 2),
            BlockGroup({"channels": (8, 24, 16), "splits": (0, 2), "kernel": (3, 5)}),
        ],
        head=HeadSpec(channels=32, num_classes=4),
    )


def every_choice(space: NetworkSpace) -> torch.Tensor:
    return torch.cartesian_prod(*(torch.arange(c) for c in space.cardinalities))


def exact_latency(arch: Architecture) -> float:
    return math.fsum(own_ms(BlockShape(x.spec, x.in_channels, x.in_size)) for x in arch.layers())


def test_latency_is_the_sum_of_stem_blocks_and_head_without_overhead(space):
    table = LatencyTable(timer=FakeTimer())
    for choices in space.sample(10, torch.Generator().manual_seed(0)):
        arch = space.architecture(choices)
        assert table.latency(arch) == pytest.approx(exact_latency(arch), abs=1e-6)


def test_latency_depends_on_the_input_size(space):
    table = LatencyTable(timer=FakeTimer())
    arch = space.architecture(space.sample(1, torch.Generator().manual_seed(0))[0])
    larger = space.at(input_size=12).architecture(
        space.sample(1, torch.Generator().manual_seed(0))[0]
    )
    assert table.latency(arch, 12) == table.latency(larger) > table.latency(arch)


def test_a_repeated_block_shape_is_measured_once():
    timer = FakeTimer()
    block = MBConvSpec(channels=8, expansion=1)
    arch = Architecture("a", 8, ConvSpec(channels=8), ((block,) * 4,), HeadSpec(16, 2))
    table = LatencyTable(timer=timer)
    table.latency(arch)
    table.latency(arch)
    same = BlockShape(MBConvSpec(channels=8, expansion=1.0), 8, 8)  # 1.0 is 1
    table.block(same)
    assert len(timer.measured) == len(table) == 3
    assert timer.overheads == 1


def test_an_identity_takes_no_time_and_no_measurement():
    timer = FakeTimer()
    table = LatencyTable(timer=timer)
    assert table.block(BlockShape(SkipSpec(channels=8), 8, 14)) == 0
    assert not timer.measured
    table.block(BlockShape(SkipSpec(channels=8), 16, 14))
    assert len(timer.measured) == 1


def test_noise_never_makes_a_block_negative():
    class Noisy(FakeTimer):
        def blocks(self, shapes):
            return [OVERHEAD - 0.1 for _ in shapes]

    assert LatencyTable(timer=Noisy()).block(BlockShape(ConvSpec(8), 3, 8)) == 0


def test_cost_equals_latency_of_every_architecture(space):
    table = LatencyTable(timer=FakeTimer())
    choices = every_choice(space)
    costs = table.cost(space)(choices)
    assert costs.dtype == torch.float64 and costs.shape == (len(choices),)
    expected = [table.latency(space.architecture(row)) for row in choices]
    torch.testing.assert_close(costs, torch.tensor(expected, dtype=torch.float64))
    assert len(set(expected)) > 20  # a cost that ignored the choices would pass otherwise


def test_cost_measures_only_what_is_missing_and_then_nothing(space):
    timer = FakeTimer()
    cost = LatencyTable(timer=timer).cost(space)
    choices = space.sample(3, torch.Generator().manual_seed(0))
    first = cost(choices)
    needed = {
        BlockShape(x.spec, x.in_channels, x.in_size)
        for row in choices
        for x in space.architecture(row).layers()
    }
    assert set(timer.measured) == {s for s in needed if not s.is_identity}
    count = len(timer.measured)
    assert torch.equal(cost(choices), first)
    assert len(timer.measured) == count
    assert cost(choices[:0]).shape == (0,)


def test_known_costs_are_fast():
    space = get_space("FP-NAS-Micro")
    cost = LatencyTable(timer=FakeTimer()).cost(space)
    choices = space.sample(2000, torch.Generator().manual_seed(0))
    cost(choices)
    start = time.perf_counter()
    cost(choices)
    assert (time.perf_counter() - start) / len(choices) < 100e-6


def test_measure_takes_every_block_of_the_space_once(space):
    timer = FakeTimer()
    table = LatencyTable(timer=timer)
    assert table.measure(space, progress=False) == len(table)
    assert len(timer.measured) == len(set(timer.measured))
    table.cost(space)(every_choice(space))
    assert table.measure(space, progress=False) == 0


def test_cost_refuses_choices_of_another_shape(space):
    cost = LatencyTable(timer=FakeTimer()).cost(space)
    with pytest.raises(UserError, match="two-groups"):
        cost(torch.zeros(len(space.variables), dtype=torch.int64))
    with pytest.raises(UserError, match="out of range"):
        cost(torch.full((1, len(space.variables)), 99))


def test_a_table_is_read_back_and_measures_nothing_again(space, tmp_path):
    path = tmp_path / "folder" / "table.json"
    choices = every_choice(space)
    before = LatencyTable(path, timer=FakeTimer()).cost(space)(choices)
    timer = FakeTimer()
    table = LatencyTable(path, timer=timer)
    assert torch.equal(table.cost(space)(choices), before)
    assert not timer.measured and not timer.overheads
    assert json.loads(path.read_text())["machine"] == timer.describe()


def test_an_interrupted_measurement_is_continued(tmp_path):
    space, path = get_space("FP-NAS-Micro"), tmp_path / "table.json"
    with pytest.raises(KeyboardInterrupt):
        LatencyTable(path, timer=FakeTimer(fail_after=100)).measure(space, progress=False)
    timer = FakeTimer()
    table = LatencyTable(path, timer=timer)
    kept = len(table)
    assert kept >= 100
    assert table.measure(space, progress=False) == len(table) - kept
    whole = LatencyTable(timer=FakeTimer())
    whole.measure(space, progress=False)
    assert len(table) == len(whole)
    assert not list(tmp_path.glob("*.tmp*"))


def test_two_runs_add_to_one_file(space, tmp_path):
    path = tmp_path / "table.json"
    first, second = (LatencyTable(path, timer=FakeTimer()) for _ in range(2))
    shapes = first.cost(space).shapes()
    first.measure_blocks(shapes[:2])
    second.measure_blocks(shapes[2:])
    assert len(LatencyTable(path, timer=FakeTimer())) == len({str(shape) for shape in shapes})


@pytest.fixture
def foreign(space, tmp_path) -> Path:
    """A table of a machine with four threads that knows one architecture."""
    path = tmp_path / "table.json"
    table = LatencyTable(path, timer=FakeTimer(threads=4))
    table.cost(space)(torch.zeros(1, len(space.variables), dtype=torch.int64))
    return path


def test_a_table_of_another_machine_is_refused(foreign):
    with pytest.raises(UserError, match=r"table.json.*threads 4.*threads 1.*other_machine"):
        LatencyTable(foreign, timer=FakeTimer(threads=1))


def test_a_table_of_another_machine_is_only_read(space, foreign):
    content, timer = foreign.read_bytes(), FakeTimer(threads=1)
    table = LatencyTable(foreign, other_machine=True, timer=timer)
    assert table.machine["threads"] == "4"
    cost = table.cost(space)
    known = torch.zeros(1, len(space.variables), dtype=torch.int64)
    assert float(cost(known)) == pytest.approx(exact_latency(space.architecture(known[0])))
    with pytest.raises(UserError, match="lacks"):
        cost(every_choice(space)[-1:])
    table.calibrate(0.1, "here")
    assert not timer.measured and foreign.read_bytes() == content


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t[: len(t) // 2], "cannot be read"),
        (lambda t: "[]", "cannot be read"),
        (lambda t: t.replace('"overhead_ms": 0.5', '"overhead_ms": NaN'), "no finite number"),
        (lambda t: t.replace('"overhead_ms"', '"overhed_ms"'), "overhead_ms"),
        (lambda t: t.replace('28": ', '28": -'), "negative"),
    ],
)
def test_a_damaged_table_is_named(tmp_path, damage, message):
    path = tmp_path / "table.json"
    LatencyTable(path, timer=FakeTimer()).block(BlockShape(ConvSpec(8), 3, 28))
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    with pytest.raises(UserError, match=message) as error:
        LatencyTable(path, timer=FakeTimer())
    assert str(path) in str(error.value)


def test_the_intercept_is_added_to_networks_and_kept(space, tmp_path):
    path = tmp_path / "table.json"
    table = LatencyTable(path, timer=FakeTimer())
    choices = every_choice(space)[:5]
    cost = table.cost(space)
    before = cost(choices)
    table.calibrate(0.25, "5 networks")
    torch.testing.assert_close(cost(choices), before + 0.25)
    again = LatencyTable(path, timer=FakeTimer())
    assert (again.intercept_ms, again.intercept_source) == (0.25, "5 networks")
    torch.testing.assert_close(again.cost(space)(choices), before + 0.25)
    arch = space.architecture(choices[0])
    assert again.latency(arch) == pytest.approx(again.sum_of_blocks(arch) + 0.25)
