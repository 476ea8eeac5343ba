"""The search with measured latency against the search with FLOPs, on tiny images."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

from fpnas.config import CfgNode
from fpnas.data import DATASET_REGISTRY, ImageSet, TensorImages
from fpnas.spaces import SPACE_REGISTRY, NetworkSpace, get_space

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "latency_search.py"
SIDE = 8


@SPACE_REGISTRY.register(name="test_latency_search")
def few_blocks() -> NetworkSpace:
    """FP-NAS-Micro with two choices a group: few blocks to measure."""
    space = get_space("FP-NAS-Micro")
    groups = [
        type(group)(
            {n: v[-2:] if n == "channels" else v[-1:] for n, v in group.variables.items()},
            group.repeats,
            group.stride,
            group.block,
        )
        for group in space.block_groups
    ]
    return NetworkSpace("test_latency_search", SIDE, space.stem, groups, space.head)


@DATASET_REGISTRY.register(name="test_latency_search")
def noise(cfg: CfgNode, split: str) -> ImageSet:
    generator = torch.Generator().manual_seed(len(split))
    images = torch.randint(256, (96, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    return TensorImages(images, torch.arange(96) % 2, ["a", "b"])


@pytest.mark.slow
def test_compares_the_networks_of_both_searches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    options = {
        "DATA.NAME": "test_latency_search",
        "DATA.INPUT_SIZE": SIDE,
        "SOLVER.BATCH_SIZE": 24,
        "SOLVER.EPOCHS": 2,
        "SEARCH.SPACE": "test_latency_search",
        "SEARCH.VAL_BATCH_SIZE": 16,
        "SEARCH.TARGET": 1.5e6,
        "SEARCH.BN_BATCHES": 1,
    }
    pairs = [text for key, value in options.items() for text in (key, str(value))]
    arguments = ["--data", "unused", "--table", str(tmp_path / "blocks.json")]
    # Noise decides nothing; a latency of up to ten times the first network's is always reachable.
    arguments += ["--output-dir", str(tmp_path / "out"), "--latency-share", "10", "--opts", *pairs]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    monkeypatch.syspath_prepend(SCRIPT.parent)
    runpy.run_path(str(SCRIPT), run_name="__main__")

    figures = json.loads((tmp_path / "out" / "results.json").read_text())
    assert figures["latency_ratio"] == pytest.approx(figures["latency_ms"] / figures["flops_ms"])
    assert 0 < figures["flops_mflops"] <= 1.5
    assert figures["loss_difference_error"] >= 0
    for network in ("flops", "latency"):
        result = (tmp_path / "out" / network / "search_result.yaml").read_text()
        assert "choices" in result or "stages" in result
        assert figures[f"{network}_loss_in_{network}_supernet"] > 0
    assert "latency_ratio" in capsys.readouterr().out
