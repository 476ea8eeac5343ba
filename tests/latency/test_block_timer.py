from __future__ import annotations

import pytest
import torch

from fpnas.archs import Architecture
from fpnas.blocks import BlockShape, ConvSpec, HeadSpec, MBConvSpec, SkipSpec
from fpnas.errors import UserError
from fpnas.latency import LatencyTable, OnnxTimer, block_timer


def test_onnx_runtime_measures_blocks_and_networks():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    timer = OnnxTimer(threads=1)
    assert timer.describe()["threads"] == "1"
    small = BlockShape(MBConvSpec(channels=8, expansion=2.0, splits=2), 8, 4)
    large = BlockShape(MBConvSpec(channels=64, expansion=6.0), 64, 32)
    state = torch.get_rng_state()
    table = LatencyTable(timer=timer)
    table.measure_blocks([small, large])
    arch = Architecture("a", 32, ConvSpec(channels=8), ((large.spec,),), HeadSpec(16, 2))
    (network,) = timer.networks([arch], 32)
    assert torch.equal(torch.get_rng_state(), state)
    # 25 million multiply-adds against 0.01 million: no noise turns this round.
    assert 0 < table.block(small) < table.block(large) < 1000
    assert network > timer.overhead() > 0


def test_onnx_timer_measures_what_an_export_writes():
    """A strided skip slices in front of its convolution where a gradient is wanted."""
    pytest.importorskip("onnxscript")
    shape = BlockShape(SkipSpec(16, stride=2), 8, 16)
    [graph] = block_timer._export_side_by_side([shape], [torch.zeros(1, 8, 16, 16)])
    assert [node.op_type for node in graph.graph.node] == ["Conv", "Relu"]


def test_onnx_timer_names_the_block_that_cannot_be_exported(monkeypatch):
    pytest.importorskip("onnxruntime")
    export = block_timer._export_side_by_side

    def failing(shapes, inputs):
        if any(shape.spec.channels == 12 for shape in shapes):
            raise RuntimeError("no such operator\nmore")
        return export(shapes, inputs)

    monkeypatch.setattr(block_timer, "_export_side_by_side", failing)
    good, bad = (BlockShape(ConvSpec(channels), 3, 4) for channels in (8, 12))
    with pytest.raises(UserError, match=r"Conv\(channels=12.*on 3x4x4.*no such operator$"):
        OnnxTimer().blocks([good, bad])


def test_missing_packages_and_threads_are_user_errors(monkeypatch):
    with pytest.raises(UserError, match="threads"):
        OnnxTimer(threads=0)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"fpnas\[export\]"):
        OnnxTimer()
