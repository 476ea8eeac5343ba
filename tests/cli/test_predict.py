"""fpnas predict and fpnas eval --model: photos to names, and bad files named."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fpnas.archs import Architecture
from fpnas.blocks import ConvSpec, HeadSpec, MBConvSpec
from fpnas.cli import main
from fpnas.data import Preprocessing
from fpnas.model_zoo import Metric, ZooRecord, manifest
from fpnas.modeling import SearchedNet
from fpnas.training.artifact import Description
from fpnas.utils.cache import sha256_of

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}
CLASSES = ("Red", "Green", "Blue", "none of these")
PREPROCESSING = Preprocessing(16, 1.0, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def colour_net() -> SearchedNet:
    """A network whose logits 0 to 2 are the mean red, green and blue, 3 is far below."""
    arch = Architecture(
        name="colours",
        input_size=16,
        stem=ConvSpec(8, kernel=1, act="relu"),
        stages=((MBConvSpec(8, expansion=1, kernel=1),),),
        head=HeadSpec(8, num_classes=len(CLASSES), act="relu"),
    )
    net = SearchedNet(arch).eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.dirac_(module.weight, groups=module.groups)
        net.head.fc.weight.copy_(10 * torch.eye(len(CLASSES), 8))
        net.head.fc.bias.copy_(torch.tensor([0.0, 0.0, 0.0, -10.0]))
    return net


@pytest.fixture
def published(tmp_path, monkeypatch):
    """colour_net in a zoo of its own."""
    folder = tmp_path / "package" / "entries"
    folder.mkdir(parents=True)
    monkeypatch.setattr(manifest, "_PACKAGE", folder.parent)
    net = colour_net()
    net.arch.save(tmp_path / "colours.yaml")
    weights = folder / "colours.safetensors"
    save_file(net.state_dict(), weights)
    record = ZooRecord(
        name="colours",
        architecture=str(tmp_path / "colours.yaml"),
        dataset="colours",
        metrics=(Metric("top1", 100.0, "three images", command="fpnas eval"),),
        flops=net.arch.flops(),
        params=net.arch.params,
        preprocessing=PREPROCESSING,
        file=weights.name,
        size_bytes=weights.stat().st_size,
        sha256=sha256_of(weights),
        layout="fpnas",
        recipe=None,
        commit=None,
        seed=None,
        data_hash=None,
        search=None,
        licence="MIT",
        classes=CLASSES,
        source="made by hand",
    )
    (folder / "colours.yaml").write_text(record.to_yaml(), encoding="utf-8")


def save_colour(path, name, size=(24, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.broadcast_to(np.uint8(COLOURS[name]), (*size, 3))
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)
    return str(path)


def test_names_and_probabilities(published, tmp_path, capsys):
    photos = [save_colour(tmp_path / f"{name}.png", name) for name in ("red", "blue")]
    assert main(["predict", "--model", "colours", "--top", "2", *photos]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == photos[0]
    assert lines[3] == photos[1]
    assert lines[1].split("%")[1].strip() == "Red"
    assert lines[4].split("%")[1].strip() == "Blue"
    # Of one colour: logits 10, 0, 0, -10 (the stem's ReLU cuts what is below grey).
    expected = torch.tensor([10.0, 0.0, 0.0, -10.0]).softmax(0)[0]
    assert float(lines[1].split("%")[0]) == pytest.approx(100 * expected.item(), abs=0.06)
    assert len(lines) == 6


def test_bad_files_are_named_and_the_others_predicted(published, tmp_path, capsys):
    good = save_colour(tmp_path / "good.png", "green")
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    assert main(["predict", "--model", "colours", str(bad), good, str(tmp_path / "none.jpg")]) == 1
    output = capsys.readouterr()
    assert "Green" in output.out.splitlines()[1]
    assert len(output.out.splitlines()) == 1 + len(CLASSES)
    assert output.err.count("fpnas: error: ") == 2
    assert str(bad) in output.err
    assert "none.jpg" in output.err


def test_weights_of_a_training(tmp_path, capsys):
    net = colour_net()
    about = Description(net.arch, PREPROCESSING, CLASSES)
    torch.save({"model": net.state_dict(), **about.to_dict()}, tmp_path / "model_final.pth")
    photo = save_colour(tmp_path / "x.png", "green")
    assert main(["predict", "--weights", str(tmp_path / "model_final.pth"), photo]) == 0
    assert "Green" in capsys.readouterr().out.splitlines()[1]


def test_weights_alone_are_refused_with_what_predict_takes(tmp_path, capsys):
    torch.save(colour_net().state_dict(), tmp_path / "alone.pth")
    assert main(["predict", "--weights", str(tmp_path / "alone.pth"), "x.png"]) == 2
    message = capsys.readouterr().err
    assert "model_final.pth" in message and "network.pth" in message and "--model" in message


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["--model", "colourz"], "Did you mean 'colours'?"),
        (["--model", "fbnetv2_f1"], "No checkpoint of 'fbnetv2_f1'"),
        (["--weights", "none.pth"], "none.pth"),
        (["--model", "colours", "--top", "0"], "--top"),
    ],
)
def test_wrong_request(published, argv, word, capsys):
    assert main(["predict", *argv, "x.jpg"]) == 2
    assert word in capsys.readouterr().err


def test_eval_matches_classes_by_name(published, tmp_path, caplog):
    """Folders in another order, spelling and number than the network's classes."""
    for split in ("train", "val"):
        for name in COLOURS:
            save_colour(tmp_path / "data" / split / name / "1.png", name)
    save_colour(tmp_path / "data" / "val" / "red" / "wrong.png", "blue")
    keys = ["DATA.ROOT", str(tmp_path / "data"), "DATA.NUM_WORKERS", "0"]
    with caplog.at_level(logging.INFO, logger="fpnas"):
        assert main(["eval", "--model", "colours", *keys]) == 0
    assert "top1: 75" in caplog.text
    assert "4 images" in caplog.text


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["--model", "colours", "--config-file", "quick/train.yaml"], "not both"),
        (["--model", "fbnetv2_f1"], "No checkpoint of 'fbnetv2_f1'"),
        (["--model", "colours", "DATA.ROT", "x"], "'DATA.ROT'"),
        (["--model", "colours", "DATA.ROOT", "none"], "none"),
        (["--model", "colours", "SEED", "1", "--num-gpus"], "before"),
    ],
)
def test_wrong_evaluation(published, argv, word, capsys):
    assert main(["eval", *argv]) == 2
    assert word in capsys.readouterr().err.splitlines()[-1]
