"""The speed benchmark at tiny sizes: every sub-command runs and reports what it promises."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch

from fpnas.archs import get_arch
from fpnas.errors import UserError
from fpnas.spaces import get_space

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def speed(monkeypatch):
    """The script, imported as it is when it runs: with its own folder on the path."""
    monkeypatch.syspath_prepend(FOLDER)
    import speed

    yield speed
    for name in [n for n in sys.modules if n.partition(".")[0] in ("speed", "speed_lib")]:
        del sys.modules[name]


def run(speed, folder: Path, *argv: str) -> dict[str, float]:
    """What ``speed.py argv`` writes to a JSON file; every figure is a finite number."""
    path = folder / "speed.json"
    speed.main([*argv, "--json", str(path)])
    figures = json.loads(path.read_text())
    assert all(math.isfinite(value) for value in figures.values())
    return figures


def has_quartiles(figures: dict[str, float], key: str) -> bool:
    return 0 < figures[f"{key}_q1"] <= figures[f"{key}_median"] <= figures[f"{key}_q3"]


@pytest.mark.slow
def test_supernet(speed, tmp_path):
    plot = tmp_path / "speed.svg"
    figures = run(
        speed,
        tmp_path,
        *("supernet", "--space", "FP-NAS-Micro", "--architectures", "2", "--rounds", "2"),
        *("--batch-size", "4", "--input-size", "16", "--all-choices-batch-size", "2"),
        *("--alternative-rounds", "1", "--cpu-time-only", "--plot", str(plot)),
    )
    assert has_quartiles(figures, "step_ratio")
    for key in ("peak_memory_ratio", "resident_ratio", "masked_time_ratio"):
        assert figures[key] > 0
    # What takes part in the step holds memory, whatever the machine.
    assert figures["masked_memory_ratio"] > 1
    assert figures["dnas_memory_ratio"] > 2
    assert plot.read_text().startswith("<?xml")


def test_search_step(speed, tmp_path):
    figures = run(
        speed,
        tmp_path,
        *("search-step", "--space", "FP-NAS-Micro", "--samples", "1", "2", "--rounds", "2"),
        *("--batch-size", "4", "--input-size", "16"),
    )
    for k in (1, 2):
        assert has_quartiles(figures, f"search_step_ratio_k{k}")
        assert has_quartiles(figures, f"more_choices_ratio_k{k}")
        parts = [figures[f"{part}_share_k{k}"] for part in ("ask", "tell", "bind", "optimizer")]
        assert all(0 < share < 1 for share in parts)
        assert 0 < figures[f"bookkeeping_share_k{k}"] < 1


def test_train(speed, tmp_path):
    figures = run(
        speed,
        tmp_path,
        *("train", "--rounds", "1", "--batch-size", "2", "--input-size", "32", "--cpu-time-only"),
    )
    for variant in ("relu", "swish_se", "hswish_se"):
        assert has_quartiles(figures, f"train_ratio_{variant}")
        assert figures[f"train_memory_ratio_{variant}"] > 0


@pytest.mark.slow
def test_inference_adds_to_the_json_file(speed, tmp_path):
    (tmp_path / "speed.json").write_text('{"step_ratio_median": 1.02}')
    plot = tmp_path / "speed.svg"
    figures = run(
        speed,
        tmp_path,
        *("inference", "--space", "FP-NAS-Micro", "--architectures", "1", "--rounds", "2"),
        *("--relu-mflops", "1", "--swish-se-mflops", "2", "--peers", "mnasnet_100"),
        *("--input-size", "32", "--calls", "1", "--plot", str(plot)),
    )
    assert figures["step_ratio_median"] == 1.02
    assert has_quartiles(figures, "relu_inference_ratio")
    assert has_quartiles(figures, "mnasnet_100_ms")
    # Counted by fvcore on timm's network, and by our architecture of that name.
    assert figures["mnasnet_100_mflops"] * 1e6 == get_arch("mnasnet_100").flops(32)
    assert "ours_swish_se_0" in plot.read_text()


def test_cost(speed, tmp_path):
    figures = run(speed, tmp_path, "cost", "--space", "FP-NAS-Micro", "--architectures", "50")
    assert has_quartiles(figures, "cost_seconds")


def test_plot_without_figures_is_an_error(speed, tmp_path):
    argv = ["cost", "--space", "FP-NAS-Micro", "--architectures", "5", "--rounds", "1"]
    with pytest.raises(UserError, match="--plot"):
        speed.main([*argv, "--plot", str(tmp_path / "speed.svg")])


def test_peak_memory_counts_live_allocations(speed):
    from speed_lib.memory import peak_bytes

    def two_at_a_time() -> None:
        first = torch.empty(1000, dtype=torch.uint8)
        second = torch.empty(3000, dtype=torch.uint8)
        del first, second
        torch.empty(2000, dtype=torch.uint8)

    assert peak_bytes(two_at_a_time) == 4000


def make_buffers(mebibytes: int):
    """Something for a process of its own: 64 MiB before, then so many more."""
    before = [torch.ones(64 * 2**20, dtype=torch.uint8)]

    def run() -> None:
        torch.ones(mebibytes * 2**20, dtype=torch.uint8)
        before.clear()

    return run


def test_resident_growth_counts_touched_pages(speed):
    from speed_lib.memory import resident_growth

    assert resident_growth(make_buffers, 96) == pytest.approx(96, abs=12)


def test_rounds_take_turns(speed):
    from speed_lib.rounds import Clock, interleave, quartiles, ratios

    calls: list[str] = []
    ticks = iter(range(100))
    clock = Clock("ticks", lambda: float(next(ticks)), 1)
    runs = {"a": lambda: calls.append("a"), "b": lambda: (calls.append("b"), next(ticks))}
    times = interleave(runs, 3, clock, warmup=0)
    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert times == {"a": [1.0] * 3, "b": [2.0] * 3}
    assert ratios(times, "b", "a") == [2.0] * 3
    assert quartiles("x", [1.0, 2.0, 4.0]) == {"x_q1": 1.5, "x_median": 2.0, "x_q3": 3.0}


def test_twin_is_the_same_network_or_refused(speed):
    from speed_lib.architectures import variant
    from speed_lib.peers import same_network, timm_twin

    from fpnas.modeling import SearchedNet

    arch = variant(get_arch("mnasnet_100"), "hswish", 1)
    assert same_network(SearchedNet(arch), timm_twin(arch), 32)
    assert not same_network(SearchedNet(get_arch("mnasnet_100")), timm_twin(arch), 32)
    with pytest.raises(UserError, match="no twin"):
        timm_twin(variant(arch, "relu", 2))


def test_larger_space_has_the_same_networks_and_100_times_the_choices(speed):
    from speed_lib.search_step import spaces

    small, large = spaces(get_space("FP-NAS-Mini")).values()
    searched = sum(len(g.variables["expansion"]) > 1 for g in small.block_groups)
    assert large.num_architectures == small.num_architectures * 100**searched
    assert large.cost_range() == small.cost_range()
