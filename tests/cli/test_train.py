"""fpnas train --model: a published network on photos of other classes."""

from __future__ import annotations

import pytest
import torch
from colours import PREPROCESSING, save_colour
from safetensors.torch import load_file

from fpnas.cli import main
from fpnas.training import load_trained


@pytest.fixture
def photos(tmp_path):
    """Two classes of which the published network knows nothing."""
    for split in ("train", "val"):
        for index in range(4):
            for name in ("blue", "red"):
                save_colour(tmp_path / "photos" / split / name / f"{index}.png", name)
    return tmp_path / "photos"


def test_data_and_a_model_are_enough(published, photos, tmp_path):
    command = ["train", "--model", "colours", "DATA.ROOT", str(photos), "SOLVER.EPOCHS", "2"]
    own = ["OUTPUT_DIR", str(tmp_path / "out"), "DATA.NUM_WORKERS", "0", "MODEL.FREEZE_STAGES", "1"]
    assert main([*command, *own]) == 0
    trained = load_trained(tmp_path / "out" / "model_final.pth")
    assert trained.description.classes == ("blue", "red")
    assert trained.description.preprocessing == PREPROCESSING
    start = load_file(tmp_path / "package" / "entries" / "colours.safetensors")
    assert torch.equal(trained.model.state_dict()["stem.conv.weight"], start["stem.conv.weight"])
    config = (tmp_path / "out" / "config.yaml").read_text()
    assert "WEIGHTS: zoo://colours" in config
    assert "LABEL_SMOOTHING: 0.1" in config  # the recipe for fine-tuning


def test_key_value_counts_for_more_than_the_model(published, photos, tmp_path):
    command = ["train", "--model", "colours", "DATA.ROOT", str(photos), "SOLVER.EPOCHS", "2"]
    own = ["OUTPUT_DIR", str(tmp_path / "out"), "DATA.NUM_WORKERS", "0", "DATA.INPUT_SIZE", "20"]
    assert main([*command, *own]) == 0
    trained = load_trained(tmp_path / "out" / "model_final.pth")
    assert trained.description.preprocessing.input_size == 20


def test_an_unknown_model_and_an_evaluation_are_refused(published, capsys):
    assert main(["train", "--model", "colors", "DATA.ROOT", "photos"]) == 2
    assert "Did you mean 'colours'" in capsys.readouterr().err
    assert main(["train", "--eval-only", "--model", "colours"]) == 2
    assert "fpnas eval --model" in capsys.readouterr().err
