"""The benchmark of exported files: it passes on good ones and fails on a damaged one."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from fpnas import model_zoo
from fpnas.export import onnx

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    import export_parity

    return export_parity


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of six photos of one colour each."""
    folder = tmp_path_factory.mktemp("photos")
    for i, hue in enumerate(range(0, 252, 42)):
        pixels = np.random.default_rng(i).integers(0, 60, (40, 40, 3))
        pixels[..., 0] += hue // 2
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:04}_photo.png")
    return str(folder)


def test_enlivened_networks_answer_to_the_image(script):
    torch.manual_seed(0)
    network = model_zoo.get("fp_nas_c10_xs", pretrained=False)
    images = torch.randn(8, 3, 32, 32) * torch.rand(8, 1, 1, 1)
    script.enliven(network, images)
    with torch.no_grad():
        logits = network(images)
    assert not network.training and logits.std(0).min() > 1e-2


def test_good_files_pass_and_a_damaged_one_fails(script, photos, capsys, monkeypatch):
    command = [photos, "--model", "fp_nas_c10_xs", "--formats", "onnx", "--images", "6"]
    assert script.main(command) == 0
    assert " ok " in capsys.readouterr().out
    save = onnx.save

    def damage(proto, path):
        weights = next(t for t in proto.graph.initializer if len(t.dims) == 4)
        values = np.frombuffer(weights.raw_data, np.float32) * 1.01
        weights.raw_data = values.astype(np.float32).tobytes()
        save(proto, path)

    monkeypatch.setattr(onnx, "save", damage)
    assert script.main(command) == 1
    assert "failed" in capsys.readouterr().out


def test_rewrites_decide_whether_phones_take_the_graph(script, photos, capsys):
    command = [photos, "--model", "fp_nas_c10_xs", "--formats", "onnx", "--images", "6"]
    for rewrites, verdict in (("auto", " no "), ("phone", " yes ")):
        assert script.main([*command, "--rewrites", rewrites]) == 0
        assert verdict in capsys.readouterr().out
