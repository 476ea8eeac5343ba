"""The benchmark of smaller networks for photos, end to end on tiny images."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torchvision.io import write_png

from fpnas.archs import Architecture, get_arch
from fpnas.blocks import ConvSpec, HeadSpec, MBConvSpec
from fpnas.config import get_cfg
from fpnas.data import preprocessing
from fpnas.errors import UserError
from fpnas.modeling import SearchedNet
from fpnas.training.artifact import Description, TrainingCheckpointer, load_trained
from fpnas.training.trainer import ClassificationTrainer

FOLDER = Path(__file__).parents[2] / "benchmarks"
_MODULES = ("photos", "photos_lib", "units", "benchmark_config", "fine_tuning")
CLASSES = ("apple", "kiwi", "pear")
SIDE = 32


@pytest.fixture
def photos(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script, imported as it is when it runs."""
    monkeypatch.syspath_prepend(FOLDER)
    threads = torch.get_num_threads()
    import photos

    yield photos
    torch.set_num_threads(threads)
    for name in [name for name in sys.modules if name.partition(".")[0] in _MODULES]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of noise, each with a colour: 14 photos in train/, 4 in test/."""
    root = tmp_path_factory.mktemp("fruit")
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 14), ("test", 4)):
        for number, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                image = torch.randint(100, (3, SIDE, SIDE), generator=generator)
                image[number] += 100
                write_png(image.byte(), str(root / split / name / f"{index}.png"))
    return root


def teacher(arch: Architecture, folder: Path) -> Path:
    """A file of that network with random weights, as if it had been trained on the photos."""
    torch.manual_seed(0)
    network = SearchedNet(arch.with_num_classes(len(CLASSES)))
    cfg = get_cfg()
    cfg.DATA.INPUT_SIZE = SIDE
    about = Description(network.arch, preprocessing(cfg), CLASSES)
    TrainingCheckpointer(network, folder, about).save("teacher")
    return folder / "teacher.pth"


TOY = Architecture(
    "toy",
    SIDE,
    ConvSpec(8, stride=2),
    (
        (MBConvSpec(16, 2, expansion=4), MBConvSpec(16, expansion=4)),
        (MBConvSpec(24, 2, expansion=4), MBConvSpec(24, kernel=5, expansion=4)),
    ),
    HeadSpec(32, 3),
)


def run(photos: ModuleType, stage: str, root: Path, folder: Path, *flags: str) -> None:
    common = ("--output-dir", str(folder), "--input-size", str(SIDE), "--epochs", "2")
    opts = ("--opts", "DATA.NUM_WORKERS", "0", "SOLVER.BATCH_SIZE", "12")
    photos.main([stage, str(root), *common, *flags, *opts])


def results(folder: Path) -> dict[tuple[str, int], dict]:
    records = json.loads((folder / "results.json").read_text())
    return {(record["row"], record["percent"]): record for record in records}


def test_rows_are_trained_alike_and_reported(photos, root, tmp_path, capsys):
    model = ("--model", "fp_nas_c10_xs")
    with pytest.raises(UserError, match="'choose --rows full' first"):
        run(photos, "choose", root, tmp_path, *model, "--rows", "small-input")
    run(photos, "choose", root, tmp_path, *model, "--rows", "full", "--lrs", "0.02", "0.04")
    whole = tmp_path / "choose" / "full" / "100" / "lr-0.02" / "model_final.pth"
    assert load_trained(whole).description.classes == CLASSES
    small = ("--rows", "small-input", "--percents", "50", *model)
    run(photos, "choose", root, tmp_path, *small, "--lrs", "0.02", "0.04")
    for rows in (("--rows", "full", *model), small):
        run(photos, "final", root, tmp_path, *rows, "--lrs", "0.02", "0.04", "--seeds", "2")
    run(photos, "report", root, tmp_path)
    assert "small-input" in capsys.readouterr().out
    full, smaller = (results(tmp_path)[key] for key in (("full", 100), ("small-input", 50)))
    assert 0.2 * full["flops"] < smaller["flops"] <= 0.5 * full["flops"]
    assert full["params"] == smaller["params"]
    for record in (full, smaller):
        assert len(record["top1_of_seeds"]) == 2 and record["lr"] in (0.02, 0.04)
        assert len(record["held_out_top1_of_lrs"]) == 2 and record["cpu_seconds"] > 0
    with pytest.raises(UserError, match="other settings: temperature 1.0, now 2.0"):
        run(photos, "final", root, tmp_path, *small, "--temperature", "2")


@pytest.mark.parametrize("row", ["random", "found", "fresh", "fresh-thinned"])
def test_cut_and_fresh_networks_keep_to_the_budget(photos, root, tmp_path, row):
    file = teacher(TOY, tmp_path)
    flags = ["--teacher", str(file), "--rows", row, "--percents", "60", "--lrs", "0.02"]
    flags += ["--found", f"60={file}", "--fresh", f"60={arch_file(tmp_path)}"]
    run(photos, "choose", root, tmp_path / "out", *flags)
    run(photos, "report", root, tmp_path / "out")
    record = results(tmp_path / "out")[row, 60]
    assert record["held_out_top1"] is not None and record["message"] == ""
    if row not in ("found", "fresh"):  # these are what is given
        assert record["flops"] <= 0.6 * TOY.flops()


def arch_file(folder: Path) -> Path:
    TOY.save(folder / "toy.yaml")
    return folder / "toy.yaml"


def test_an_interrupted_training_goes_on(photos, root, tmp_path, monkeypatch):
    """From its last epoch, with the network that was cut before, to the same bits."""
    file = str(teacher(TOY, tmp_path))
    flags = ["--teacher", file, "--rows", "found", "--found", f"60={file}"]
    run(photos, "choose", root, tmp_path / "whole", *flags, "--lrs", "0.02")
    run_step, places = ClassificationTrainer.run_step, []

    def interrupted_step(trainer: ClassificationTrainer) -> None:
        if trainer.iter == 4:
            raise KeyboardInterrupt
        run_step(trainer)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ClassificationTrainer, "run_step", interrupted_step)
        run(photos, "choose", root, tmp_path / "parts", *flags, "--lrs", "0.02")
    monkeypatch.setattr(photos.Place, "_make_start", lambda place: places.append(place))
    run(photos, "choose", root, tmp_path / "parts", *flags, "--lrs", "0.02")
    unit = Path("choose") / "found" / "60" / "lr-0.02"
    whole, parts = (
        torch.load(tmp_path / name / unit / "model_final.pth")["model"]
        for name in ("whole", "parts")
    )
    assert not places and all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize("row", ["tp-l2", "tp-taylor-recovery"])
def test_torch_pruning_prunes_timms_network(photos, root, tmp_path, monkeypatch, row):
    pytest.importorskip("torch_pruning")
    from photos_lib import depgraph

    monkeypatch.setattr(depgraph, "_STEPS", 5)
    monkeypatch.setattr(depgraph, "_GRADIENT_BATCHES", 1)
    lite = get_arch("efficientnet_lite0")
    flags = ["--teacher", str(teacher(lite, tmp_path)), "--rows", row, "--percents", "50"]
    run(photos, "choose", root, tmp_path / "out", *flags, "--lrs", "0.02")
    run(photos, "report", root, tmp_path / "out")
    record = results(tmp_path / "out")[row, 50]
    assert record["held_out_top1"] is not None
    assert record["flops"] <= 0.5 * lite.with_num_classes(3).flops(SIDE)


def test_fastnas_prunes_our_network(photos, root, tmp_path, monkeypatch):
    pytest.importorskip("modelopt.torch")
    pytest.importorskip("torchprofile")
    from photos_lib import fastnas

    monkeypatch.setattr(fastnas, "_CALIBRATION", (100, 2))
    flags = ["--teacher", str(teacher(TOY, tmp_path)), "--rows", "fastnas", "--percents", "80"]
    run(photos, "choose", root, tmp_path / "out", *flags, "--lrs", "0.02")
    run(photos, "report", root, tmp_path / "out")
    record = results(tmp_path / "out")["fastnas", 80]
    assert record["flops"] <= 0.81 * TOY.flops()


def test_our_weights_fit_timms_network(photos, tmp_path):
    pytest.importorskip("timm")
    from photos_lib.timm_network import as_timm

    network = SearchedNet(get_arch("efficientnet_lite0").with_num_classes(5)).eval()
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.running_var, 0.5, 2)
            torch.nn.init.normal_(layer.bias, 0, 0.1)
    images = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        difference = (network(images) - as_timm(network)(images)).abs().max()
    assert difference < 1e-4
