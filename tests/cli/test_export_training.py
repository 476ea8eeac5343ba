"""fpnas export of a training: what its checkpoint says of itself counts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from fpnas.archs import Architecture
from fpnas.blocks import ConvSpec, HeadSpec, MBConvSpec
from fpnas.cli import main
from fpnas.data import Preprocessing
from fpnas.export import EXPORT_FORMATS
from fpnas.modeling import SearchedNet
from fpnas.training.artifact import Description

SIDE = 32
TRAINED = Preprocessing(SIDE, 1.0, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
DATA = ["DATA.NAME", "image_folder", "DATA.NUM_WORKERS", "0"]


def save_images(folder: Path, count: int, level: int) -> None:
    """Noisy squares around a grey ``level``."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(level)
    for index in range(count):
        pixels = generator.integers(level, level + 100, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")


def save_data(root: Path, classes: tuple[str, ...]) -> str:
    for split, count in (("train", 4), ("val", 3)):
        for number, name in enumerate(classes):
            save_images(root / split / name, count, 100 * number)
    return str(root)


class Run(NamedTuple):
    code: int
    said: str
    reports: list[dict[str, Any]]
    metadata: dict[str, Any]  # of the first file


@pytest.fixture
def arch() -> Architecture:
    return Architecture(
        "small", SIDE, ConvSpec(8), ((MBConvSpec(8, 2, 3, 2),),), HeadSpec(16, num_classes=2)
    )


@pytest.fixture
def weights(arch: Architecture, tmp_path: Path) -> str:
    """As a training on cats and dogs leaves them."""
    torch.manual_seed(0)
    file = tmp_path / "model_final.pth"
    about = Description(arch, TRAINED, ("cat", "dog")).to_dict()
    torch.save({"model": SearchedNet(arch).state_dict(), **about}, file)
    return str(file)


@pytest.fixture
def export(weights: str, tmp_path: Path, capsys, caplog) -> Callable[..., Run]:
    """``fpnas export --weights model_final.pth`` with more flags or keys."""

    def run(*arguments: str, formats: str = "torchscript") -> Run:
        out = tmp_path / "out"
        argv = ["export", "--weights", weights, "--formats", formats, "--output-dir", str(out)]
        code = main([*argv, *arguments])
        captured = capsys.readouterr()
        said = captured.err + captured.out + caplog.text
        if not (out / "export.json").exists():
            return Run(code, said, [], {})
        reports = json.loads((out / "export.json").read_text())
        read = EXPORT_FORMATS[reports[0]["format"]].read_metadata(Path(reports[0]["file"]))
        return Run(code, said, reports, {**read, **{k: json.loads(read[k]) for k in
                   ("classes", "preprocessing", "input")}})  # fmt: skip

    return run


def test_preprocessing_of_the_training_without_its_config(export, tmp_path):
    root = save_data(tmp_path / "data", ("cat", "dog"))
    run = export("--bake-preprocess", *DATA, "DATA.ROOT", root)
    assert run.code == 0, run.said
    assert run.metadata["preprocessing"] == TRAINED.to_dict()
    assert run.metadata["input"] == {"shape": [1, SIDE, SIDE, 3], "dtype": "uint8"}
    assert "std=(0.5, 0.5, 0.5)" in run.said and "std=(0.229, 0.224, 0.225)" in run.said
    assert run.reports[0]["accuracy"] is not None


def test_spaces_between_formats(export, tmp_path):
    root = save_data(tmp_path / "data", ("cat", "dog"))
    run = export(*DATA, "DATA.ROOT", root, formats="torchscript, pt2")
    assert [report["format"] for report in run.reports] == ["torchscript", "pt2"]


def test_no_warning_where_the_config_agrees(export, tmp_path):
    keys = [*DATA, "DATA.ROOT", save_data(tmp_path / "data", ("cat", "dog"))]
    keys += ["DATA.INPUT_SIZE", str(SIDE), "DATA.CROP_RATIO", "1.0"]
    run = export(*keys, "DATA.MEAN", "(0.5, 0.5, 0.5)", "DATA.STD", "(0.5, 0.5, 0.5)")
    assert run.code == 0 and "was trained with" not in run.said


def test_classes_of_the_training_where_the_data_has_others(export, tmp_path):
    run = export(*DATA, "DATA.ROOT", save_data(tmp_path / "data", ("dog", "zebra")))
    assert run.code == 0, run.said
    assert run.metadata["classes"] == ["cat", "dog"]
    assert run.reports[0]["accuracy"] is None
    assert "without their labels" in run.said and "zebra" in run.said


def test_labels_are_matched_by_name(export, tmp_path, arch, weights):
    net = SearchedNet(arch).eval()
    net.load_state_dict(torch.load(weights)["model"])
    data = tmp_path / "data"
    save_data(data, ("Dog",))  # the network's second class, and the only one of the data
    images = [torch.from_numpy(np.array(Image.open(f))) for f in sorted((data / "val").rglob("*"))
              if f.is_file()]  # fmt: skip
    with torch.no_grad():
        logits = net(TRAINED(torch.stack(images).permute(0, 3, 1, 2)))
    run = export(*DATA, "DATA.ROOT", str(data))
    assert run.reports[0]["accuracy"] == pytest.approx(100 * (logits.argmax(1) == 1).float().mean())


def test_another_architecture_with_weights_of_the_same_shapes(export, arch, tmp_path):
    other = dataclasses.replace(
        arch, name="edited", head=dataclasses.replace(arch.head, act="relu")
    )
    other.save(tmp_path / "edited.yaml")
    root = save_data(tmp_path / "data", ("cat", "dog"))
    run = export("--arch", str(tmp_path / "edited.yaml"), *DATA, "DATA.ROOT", root)
    assert run.code == 2 and "another architecture than 'edited'" in run.said
    assert not (tmp_path / "out").exists()
    arch.save(tmp_path / "own.yaml")
    assert export("--arch", str(tmp_path / "own.yaml"), *DATA, "DATA.ROOT", root).code == 0


def test_another_number_of_classes_is_refused(export, tmp_path):
    root = save_data(tmp_path / "data", ("cat", "dog"))
    run = export(*DATA, "DATA.ROOT", root, "MODEL.NUM_CLASSES", "3")
    assert run.code == 2 and "MODEL.NUM_CLASSES is 3" in run.said


def test_without_a_data_set_half_of_the_calibration_images_check(export, arch, tmp_path):
    save_images(tmp_path / "photos", 5, 50)
    arch.save(tmp_path / "own.yaml")
    keys = ["--arch", str(tmp_path / "own.yaml"), *DATA, "DATA.ROOT", ""]
    run = export("--calibration", str(tmp_path / "photos"), *keys)
    assert run.reports[0]["status"] == "ok" and run.metadata["classes"] == ["cat", "dog"]
    assert run.reports[0]["accuracy"] is None
    # The default data set, which nobody named, has none of these classes.
    run = export("--calibration", str(tmp_path / "photos"))
    assert run.reports[0]["status"] == "ok", run.said
    run = export()
    assert run.code == 2
    assert "'fashion_mnist_mini'" in run.said and "--calibration" in run.said


@pytest.mark.parametrize(
    ("key", "value", "valid"),
    [("PARITY_IMAGES", "0", "at least 2"), ("PARITY_IMAGES", "1", "at least 2"),
     ("CALIBRATION_IMAGES", "0", "at least 1")],
)  # fmt: skip
def test_too_small_numbers_of_images(export, tmp_path, key, value, valid):
    root = save_data(tmp_path / "data", ("cat", "dog"))
    run = export(*DATA, "DATA.ROOT", root, f"EXPORT.{key}", value)
    assert run.code == 2 and f"EXPORT.{key} is {value}; valid: {valid}" in run.said


def test_no_more_images_are_decoded_than_used(export, tmp_path):
    root = Path(save_data(tmp_path / "data", ("cat", "dog")))
    (root / "train" / "cat" / "0.png").write_bytes(b"damaged")
    (root / "val" / "cat" / "1.png").write_bytes(b"damaged")
    keys = [*DATA, "DATA.ROOT", str(root), "DATA.CACHE", "always", "EXPORT.PARITY_IMAGES", "2"]
    assert export(*keys).code == 0
    run = export(*keys, formats="onnx-int8")
    assert run.code == 2 and str(root / "train" / "cat" / "0.png") in run.said


def test_unreadable_calibration_images_are_left_out(export, tmp_path):
    save_images(tmp_path / "photos", 6, 50)
    for name in ("0.png", "1.png"):
        (tmp_path / "photos" / name).write_bytes(b"damaged")
    keys = ["--calibration", str(tmp_path / "photos"), *DATA, "DATA.SKIP_CORRUPT"]
    run = export(*keys, "True")
    assert run.code == 0 and "1 unreadable images were skipped" in run.said
    run = export(*keys, "False")
    assert run.code == 2 and "1.png" in run.said
    for name in ("3.png", "5.png"):
        (tmp_path / "photos" / name).write_bytes(b"damaged")
    run = export(*keys, "True")
    assert run.code == 2 and "None of 3 images is readable" in run.said


def test_one_image_is_too_few(export, tmp_path):
    save_images(tmp_path / "photos", 2, 50)
    run = export("--calibration", str(tmp_path / "photos"), *DATA)
    assert run.code == 2 and "photos' only 1 can be read" in run.said
