"""The benchmark of 8 bits: its networks, what it asks of its files, and its resumption."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import onnx
import pytest
import torch

from fpnas.modeling import SearchedNet

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    import int8

    return int8


@pytest.mark.parametrize("form", ["relu", "relu_se", "swish_se", "hswish_se"])
def test_forms_differ_in_activation_and_attention_alone(script, form):
    arch = script.network_of(form, script.SMALL, 32, 1)
    blocks = [block for stage in arch.stages for block in stage]
    assert all(block.channels % 16 == 0 for block in blocks)
    assert {(block.act, block.splits) for block in blocks} == {script.FORMS[form]}
    plain = script.network_of("relu", script.SMALL, 32, 1)
    assert [block.channels for stage in plain.stages for block in stage] == [
        block.channels for block in blocks
    ]


def test_files_of_random_weights_are_a_float_and_a_quantised_one(script, tmp_path):
    torch.manual_seed(0)
    network = SearchedNet(script.network_of("relu", script.SMALL[:2], 32, 2))
    images = torch.randn(4, 3, 32, 32)
    files = script.exported(network, tmp_path, images, images, checked=False)
    operators = {
        name: {node.op_type for node in onnx.load(file).graph.node} for name, file in files.items()
    }
    assert "QuantizeLinear" in operators["onnx-int8"] - operators["onnx"]
    assert script.speed(files, images[:1].numpy(), rounds=1, calls=1) > 0


def test_finished_figures_are_printed_without_another_run(script, tmp_path, capsys):
    for name, figures in (("figures", {"int8, %": 91.5}), ("large", {"speed at 224 px": 1.75})):
        (tmp_path / "relu").mkdir(exist_ok=True)
        (tmp_path / "relu" / f"{name}.json").write_text(json.dumps(figures))
    found = script.main(["--output-dir", str(tmp_path), "--forms", "relu"])
    assert found == {"relu": {"int8, %": 91.5, "speed at 224 px": 1.75}}
    assert "91.5" in capsys.readouterr().out and list(tmp_path.iterdir()) == [tmp_path / "relu"]
