"""fpnas export on bad input: one paragraph, an exit code, and no file."""

from __future__ import annotations

import dataclasses
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from fpnas import model_zoo
from fpnas.archs import Architecture
from fpnas.blocks import ConvSpec, HeadSpec, MBConvSpec
from fpnas.cli import main
from fpnas.modeling import SearchedNet

DATA = ["DATA.NAME", "fashion_mnist_mini", "DATA.INPUT_SIZE", "28", "EXPORT.PARITY_IMAGES", "8"]


def small_arch(channels: int) -> Architecture:
    return Architecture(
        "small", 28, ConvSpec(8), ((MBConvSpec(channels, 2, 3, 2),),), HeadSpec(16, num_classes=10)
    )


@pytest.fixture
def net(tmp_path) -> dict[str, str]:
    """Files of an architecture, its weights, and weights of another architecture."""
    files = {name: str(tmp_path / name) for name in ("arch.yaml", "own.pth", "other.pth")}
    small_arch(8).save(files["arch.yaml"])
    for name, channels in (("own.pth", 8), ("other.pth", 16)):
        torch.manual_seed(0)
        torch.save(SearchedNet(small_arch(channels)).state_dict(), files[name])
    return files


@pytest.fixture
def export(net, tmp_path, capsys) -> Callable[..., tuple[int, str]]:
    """Exit code and output of ``fpnas export``, which leaves no file behind."""

    def run(
        flags: tuple[str, ...] = (),
        config: tuple[str, ...] = (),
        weights: str = "own.pth",
        folder: Path = tmp_path / "out",
    ) -> tuple[int, str]:
        argv = ["export", "--arch", net["arch.yaml"], "--weights", net[weights]]
        code = main([*argv, "--output-dir", str(folder), *flags, *DATA, *config])
        left = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        assert left <= {"export.json"}
        captured = capsys.readouterr()
        return code, captured.err + captured.out

    return run


def test_unknown_format(export, tmp_path):
    code, said = export(("--formats=onnx,onnx-int4",))
    assert code == 2 and "Unknown export format 'onnx-int4'" in said and "onnx-int8" in said
    assert "Traceback" not in said and not (tmp_path / "out").exists()


def test_file_in_place_of_the_folder(export, tmp_path):
    (tmp_path / "file").write_text("mine")
    code, said = export(folder=tmp_path / "file")
    assert code == 2 and "Cannot write to the export folder" in said and "Traceback" not in said
    assert (tmp_path / "file").read_text() == "mine"


def test_full_disk(export):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # writing more than 4 kB fails
    try:
        code, said = export(("--formats=torchscript",))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 1 and "File too large" in said and "Traceback" not in said


def test_calibration_folder_with_one_image(export, tmp_path):
    (tmp_path / "one").mkdir()
    Image.new("RGB", (28, 28)).save(tmp_path / "one" / "a.png")
    code, said = export(("--formats=onnx-int8", f"--calibration={tmp_path / 'one'}"))
    assert code == 2 and "needs images" in said and "found 1" in said


def test_size_that_the_network_cannot_take(export):
    code, said = export(config=("DATA.INPUT_SIZE", "0"))
    assert code == 2 and "DATA.INPUT_SIZE" in said and "Traceback" not in said


def test_weights_of_another_architecture(export, net):
    code, said = export(weights="other.pth")
    assert code == 2 and net["other.pth"] in said and "Traceback" not in said
    assert "stage1.0" in said  # which tensors differ


def test_backbone(export):
    code, said = export(config=("MODEL.OUT_FEATURES", "('auto',)"))
    assert code == 2 and "MODEL.OUT_FEATURES" in said and "export_backbone" in said


def test_published_weights_and_another_architecture(tmp_path, capsys):
    arch = model_zoo.info("fp_nas_fmnist_xs").arch
    head = dataclasses.replace(arch.head, act="relu")
    dataclasses.replace(arch, name="edited", head=head).save(tmp_path / "edited.yaml")
    argv = [
        "export",
        "--arch",
        str(tmp_path / "edited.yaml"),
        "--output-dir",
        str(tmp_path / "out"),
    ]
    assert main([*argv, "--weights", "zoo://fp_nas_fmnist_xs", *DATA]) == 2
    said = capsys.readouterr().err
    assert "another architecture than 'edited'" in said
    assert not (tmp_path / "out").exists()
