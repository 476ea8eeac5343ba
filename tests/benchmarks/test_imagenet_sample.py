"""The benchmark of ImageNet weights: photos by name, and accuracy from them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from PIL import Image

from fpnas.data import Preprocessing
from fpnas.errors import DataError

FILE = Path(__file__).parents[2] / "benchmarks" / "imagenet_sample.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("imagenet_sample", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_photos_are_labelled_by_their_names(script, tmp_path):
    for name, grey in (("0007_n1_cock.jpg", 0), ("0999_x.png", 255), ("readme.jpg", 9)):
        Image.new("RGB", (20, 30), (grey,) * 3).save(tmp_path / name)
    (tmp_path / "0001_text.txt").write_text("")
    photos = script.list_photos(tmp_path)
    assert [(path.name, label) for path, label in photos] == [
        ("0007_n1_cock.jpg", 7),
        ("0999_x.png", 999),
    ]
    preprocessing = Preprocessing(8, 1.0, "bilinear", (0.5,) * 3, (0.5,) * 3)
    images, labels = script.load(photos, preprocessing)
    assert labels.tolist() == [7, 999]
    torch.testing.assert_close(images[:, 0, 0, 0], torch.tensor([-1.0, 1.0]))

    class Brightness(torch.nn.Module):
        """Class 7 for a dark photo, 999 for a bright one."""

        def forward(self, x):
            logits = torch.zeros(len(x), 1000)
            mean = x.mean((1, 2, 3))
            logits[:, 7], logits[:, 999] = -mean, mean
            return logits

    assert script.top1_in_pytorch(Brightness(), images, labels) == 100.0
    assert script.top1_in_pytorch(Brightness(), images, labels.flip(0)) == 0.0


def test_wrong_folder_and_unknown_model(script, tmp_path, capsys):
    with pytest.raises(DataError, match="CLASSINDEX"):
        script.list_photos(tmp_path)
    assert script.main([str(tmp_path / "none")]) == 2
    assert "does not exist" in capsys.readouterr().err
    Image.new("RGB", (8, 8)).save(tmp_path / "0001_x.png")
    assert script.main([str(tmp_path), "--model", "no_such"]) == 2
    assert "no_such" in capsys.readouterr().err
