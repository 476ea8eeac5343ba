"""The segmentation project: masks, data, model, training with resume, scores, scripts, export."""

from __future__ import annotations

import argparse
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from detection_cases import small_arch, voc_object
from PIL import Image
from torchvision.transforms.v2.functional import resize_mask

from fpnas.config import CfgNode
from fpnas.data.preprocessing import square_input
from fpnas.data.streaming import SampleBatches
from fpnas.errors import CheckpointError, ConfigError, DataError, UserError
from fpnas.export import onnx
from fpnas.modeling import SearchedNet
from fpnas.utils.checkpoint import read_checkpoint
from fpnas_segmentation.box_masks import draw_layers, flatten, read_boxes, write_split
from fpnas_segmentation.config import check_config, config_from_args, get_segmentation_cfg
from fpnas_segmentation.data import IGNORED, AugmentedSet, collate, read_split
from fpnas_segmentation.evaluate import confusion, evaluate, iou_scores, overlay, predict
from fpnas_segmentation.export import export_segmenter
from fpnas_segmentation.model import Segmenter
from fpnas_segmentation.run import (
    SegmentationTrainer,
    TrainedSegmenter,
    _initial_model,
    load_segmenter,
    run_training,
)

PROJECT = Path(__file__).parents[2] / "projects" / "segmentation"
CONFIGS = sorted((PROJECT / "configs").glob("*.yaml"))
CLASSES = ("grey", "blue", "red")
COLOURS = torch.tensor([(128, 128, 128), (0, 0, 255), (255, 0, 0)], dtype=torch.uint8)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Coloured rectangles on grey; the mask says which colour, and ignores the first row."""
    root = tmp_path_factory.mktemp("masks")
    for split, count in (("train", 6), ("val", 3)):
        for name in ("images", "masks"):
            (root / split / name).mkdir(parents=True)
        for number in range(count):
            mask = np.zeros((48, 64), dtype=np.uint8)
            mask[5 + number : 25, 4:30] = 1
            mask[20:40, 34 : 50 + number] = 2
            pixels = COLOURS[torch.from_numpy(mask).long()].numpy()
            mask[0] = IGNORED
            Image.fromarray(pixels).save(root / split / "images" / f"{number}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{number}.png")
    return root


def config(root: Path, arch_file: Path, **overrides: object) -> CfgNode:
    cfg = get_segmentation_cfg()
    cfg.MODEL.ARCH = str(arch_file)
    cfg.SEGMENTATION.CLASSES = CLASSES
    cfg.SEGMENTATION.HEAD_CHANNELS = 16
    cfg.DATA.ROOT = str(root)
    cfg.DATA.INPUT_SIZE = 32
    cfg.DATA.NUM_WORKERS = 0
    cfg.SOLVER.BATCH_SIZE = 2
    cfg.SOLVER.EPOCHS = 1
    cfg.SOLVER.LR = 0.05
    cfg.LOG.TENSORBOARD = False
    for key, value in overrides.items():
        cfg.merge_from_list([key.replace("__", "."), str(value)])
    check_config(cfg)
    return cfg


# Masks from boxes ---------------------------------------------------------------------------------


def test_ellipses_fill_their_boxes_and_later_classes_lie_on_top() -> None:
    boxes = [("b", (10.0, 5.0, 30.0, 45.0)), ("a", (0.0, 20.0, 40.0, 30.0)), ("x", (0, 0, 60, 50))]
    layers = draw_layers((60, 50), boxes, ("a", "b"))
    for layer, (x1, y1, x2, y2) in zip(layers, ((0, 20, 40, 30), (10, 5, 30, 45)), strict=True):
        rows, columns = np.nonzero(layer)
        found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert found == (x1, y1, x2, y2)
        area = np.pi / 4 * (x2 - x1) * (y2 - y1)
        assert layer.sum() == pytest.approx(area, rel=0.06)
    mask = flatten(layers)
    assert mask[25, 20] == 2
    assert mask[25, 3] == 1
    assert mask[0, 0] == 0


def test_a_split_is_made_of_annotations(tmp_path: Path) -> None:
    voc, output = tmp_path / "voc", tmp_path / "masks"
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (voc / name).mkdir(parents=True)
    (voc / "ImageSets" / "Main" / "val.txt").write_text("one\n")
    Image.new("RGB", (40, 30)).save(voc / "JPEGImages" / "one.jpg")
    size = "<size><width>40</width><height>30</height></size>"
    cells = voc_object("a", 1, 1, 20, 20) + voc_object("b", 11, 1, 30, 20)
    annotation = voc / "Annotations" / "one.xml"
    annotation.write_text(f"<annotation>{size}{cells}</annotation>")
    assert read_boxes(annotation)[1][0] == ("a", (0, 0, 20, 20))
    share = write_split(voc, output, "val", ("a", "b"))
    # Two circles of radius r at distance r: the common part over all of both.
    lens = 2 * np.pi / 3 - np.sqrt(3) / 2
    assert share == pytest.approx(lens / (2 * np.pi - lens), abs=0.02)
    cfg = get_segmentation_cfg()
    cfg.DATA.ROOT, cfg.SEGMENTATION.CLASSES = str(output), ("background", "a", "b")
    image, mask = read_split(cfg, "val").pair(0)
    assert image.shape == (3, 30, 40)
    assert mask.unique().tolist() == [0, 1, 2]
    annotation.write_text("<annotation></annotation>")
    with pytest.raises(DataError, match="one.xml"):
        write_split(voc, output, "val", ("a",))


# Data ---------------------------------------------------------------------------------------------


def test_augmented_masks_follow_their_images(root: Path, arch_file: Path) -> None:
    cfg = config(root, arch_file, SEGMENTATION__PHOTOMETRIC=0.0, SEGMENTATION__VFLIP=0.5)
    samples = AugmentedSet(read_split(cfg, "train"), cfg)
    torch.manual_seed(0)
    ignored = []
    for index in range(6):
        image, mask = samples[index]
        assert image.shape == (3, 32, 32)
        counts = mask != IGNORED
        ignored.append(int((~counts).sum()))
        nearest = (image[:, None] - COLOURS.T[:, :, None, None] / 255).abs().sum(0).argmin(0)
        assert (nearest == mask)[counts].float().mean() > 0.9  # edges are blurred
    assert max(ignored) > 100  # a zoomed-out image leaves an edge


def test_batches_can_start_anywhere(root: Path, arch_file: Path) -> None:
    cfg = config(root, arch_file)
    samples = AugmentedSet(read_split(cfg, "train"), cfg)
    batches = SampleBatches(samples, collate, 2, seed=3, num_workers=0)
    whole, late = batches.iterate(), batches.iterate(4)
    for _ in range(4):
        next(whole)
    for ours, theirs in zip(next(whole), next(late), strict=True):
        assert torch.equal(ours, theirs)


def test_unusable_masks_are_named(root: Path, arch_file: Path, tmp_path: Path) -> None:
    cfg = config(root, arch_file, SEGMENTATION__CLASSES=("grey", "blue"))
    with pytest.raises(DataError, match="class 2"):
        read_split(cfg, "val").mask(0)
    cfg.DATA.ROOT = str(tmp_path)
    with pytest.raises(DataError, match="images"):
        read_split(cfg, "val")
    for name in ("images", "masks"):
        (tmp_path / "val" / name).mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "val" / "images" / "0.jpg")
    with pytest.raises(DataError, match=r"0\.png"):
        read_split(cfg, "val")
    Image.new("L", (8, 9)).save(tmp_path / "val" / "masks" / "0.png")
    with pytest.raises(DataError, match=r"\(9, 8\)"):
        read_split(cfg, "val").pair(0)


# Model --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "stride", "widths", "sides"),
    [
        (("auto",), 16, (16, 32), (8, 4)),  # the last stage is dilated
        (("auto",), 0, (24, 32), (4, 2)),
        (("stage1", "stage3"), 0, (8, 24), (16, 4)),
    ],
)
def test_the_head_sees_the_last_maps_of_two_strides(
    root: Path, arch_file: Path, names, stride: int, widths, sides
) -> None:
    keys = {"MODEL__OUT_FEATURES": names, "MODEL__OUTPUT_STRIDE": stride}
    model = Segmenter(config(root, arch_file, **keys)).eval()
    images = torch.rand(2, 3, 64, 64)
    maps = model.net.backbone(images)
    shapes = [(maps[name].shape[1], maps[name].shape[-1]) for name in ("low", "high")]
    assert shapes == list(zip(widths, sides, strict=True))
    assert model(torch.rand(2, 3, 40, 64)).shape == (2, 3, 40, 64)


def test_notes_name_the_normalisation_of_the_weights(root: Path, arch_file: Path) -> None:
    keys = {"MODEL__ARCH": "fp_nas_c10_xs", "MODEL__WEIGHTS": "zoo://fp_nas_c10_xs"}
    keys |= {"MODEL__OUTPUT_STRIDE": 0, "DATA__STD": (1.0, 1.0, 1.0)}
    _, notes = _initial_model(config(root, arch_file, **keys), False)
    assert any("DATA.STD (0.229, 0.224, 0.225)" in note for note in notes)
    assert not any("DATA.MEAN" in note for note in notes)


@pytest.mark.parametrize("names", ["()", "('stage3',)"])
def test_maps_of_one_stride_are_not_enough(root: Path, arch_file: Path, names: str) -> None:
    with pytest.raises(ConfigError, match="OUT_FEATURES"):
        Segmenter(config(root, arch_file, MODEL__OUT_FEATURES=names, MODEL__OUTPUT_STRIDE=0))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SEGMENTATION.CLASSES", "('a',)"),
        ("SEGMENTATION.ZOOM", "(1.5, 1.0)"),
        ("SEGMENTATION.VFLIP", "2.0"),
        ("MODEL.NUM_CLASSES", "3"),
        ("SOLVER.DISTILL.ARCH", "x"),
        ("MODEL.DROPOUT", "0.1"),
        ("DATA.AUGMENT.POLICY", "randaugment"),
        ("EXPORT.BAKE_PREPROCESS", "True"),
        ("EXPORT.REWRITES", "('nonsense',)"),
    ],
)
def test_unusable_values_are_named(root: Path, arch_file: Path, key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=key.rsplit(".", 1)[0]):
        config(root, arch_file, **{key.replace(".", "__"): value})


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_configs_are_valid_and_in_the_readme(file: Path) -> None:
    cfg = config_from_args(argparse.Namespace(config_file=str(file), opts=[]))
    assert len(cfg.SEGMENTATION.CLASSES) == 4
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert f"`{file.stem}`" in readme
    assert set(re.findall(r"configs/(bccd\w+)\.yaml", readme)) <= {f.stem for f in CONFIGS}


# Scores -------------------------------------------------------------------------------------------


def test_scores_by_hand() -> None:
    truth = torch.tensor([[0, 0, 1, 1], [1, 1, IGNORED, IGNORED]])
    found = torch.tensor([[0, 1, 1, 1], [1, 0, 2, 0]])
    scores = iou_scores(confusion(found, truth, 3), CLASSES)
    assert scores["iou_grey"] == pytest.approx(1 / 3)
    assert scores["iou_blue"] == pytest.approx(3 / 5)
    assert "iou_red" not in scores
    assert scores["miou"] == pytest.approx((1 / 3 + 3 / 5) / 2)
    assert scores["pixel_accuracy"] == pytest.approx(4 / 6)


class ByColour(torch.nn.Linear):
    """Knows the colours."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert not self.training
        return -(images[:, None] - COLOURS[None, :, :, None, None] / 255).abs().sum(2)


def test_evaluation_is_in_the_pixels_of_the_stored_image(root: Path, arch_file: Path) -> None:
    data, model = read_split(config(root, arch_file), "val"), ByColour(1, 1).train()
    scores = evaluate(model, data, 64, CLASSES)
    assert scores["miou"] > 0.95
    assert model.training
    assert predict(model.eval(), data.image(0), 32).shape == (48, 64)


# Training and what comes after it -----------------------------------------------------------------


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_resumed_training_ends_with_the_same_bits(
    root: Path, arch_file: Path, tmp_path: Path, monkeypatch, ema: float
) -> None:
    keys = {"SOLVER__EPOCHS": 2, "SOLVER__EMA_DECAY": ema, "CHECKPOINT__PERIOD": 1}
    result = run_training(config(root, arch_file, OUTPUT_DIR=tmp_path / "whole", **keys))
    assert 0 <= result["miou"] <= result["best_miou"] <= 1

    stopped = config(root, arch_file, OUTPUT_DIR=tmp_path / "stopped", **keys)
    step = SegmentationTrainer.run_step

    def stop_at_4(self: SegmentationTrainer) -> None:
        if self.iter == 4:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(SegmentationTrainer, "run_step", stop_at_4)
        run_training(stopped)
    assert not (tmp_path / "stopped" / "model_final.pth").exists()
    assert run_training(stopped, resume=True) == result
    expected = read_checkpoint(tmp_path / "whole" / "model_final.pth")["model"]
    found = read_checkpoint(tmp_path / "stopped" / "model_final.pth")["model"]
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_failed_resumption_leaves_the_files_of_the_run(
    root: Path, arch_file: Path, tmp_path: Path
) -> None:
    keys = {"OUTPUT_DIR": tmp_path / "out", "MODEL__WEIGHTS": tmp_path / "w.pth"}
    torch.save(SearchedNet(small_arch()).state_dict(), tmp_path / "w.pth")
    run_training(config(root, arch_file, **keys))
    log = (tmp_path / "out" / "log.txt").read_text()
    assert "WARNING" in log and "dropped what the backbone does not have: head" in log

    before = {file: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    for bad, words in (
        ({"SEGMENTATION__HEAD_CHANNELS": 24}, "does not fit"),
        ({"SOLVER__BATCH_SIZE": 7}, "BATCH_SIZE"),
    ):
        with pytest.raises(UserError, match=words):
            run_training(config(root, arch_file, **keys | bad), resume=True, allow_changes=True)
    assert {file: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before


def test_a_training_that_cannot_start_writes_nothing(
    root: Path, arch_file: Path, tmp_path: Path
) -> None:
    keys = {"OUTPUT_DIR": tmp_path / "out", "MODEL__WEIGHTS": tmp_path / "none.pth"}
    with pytest.raises(CheckpointError, match="none.pth"):
        run_training(config(root, arch_file, **keys), resume=True)
    assert not (tmp_path / "out").exists()


def test_colours_are_learned_and_ignored_pixels_are_not(root: Path, arch_file: Path) -> None:
    torch.manual_seed(0)
    model = Segmenter(config(root, arch_file))
    trainer = SegmentationTrainer(model, torch.optim.AdamW(model.parameters(), 0.01), None)
    image, mask = read_split(config(root, arch_file), "train").pair(0)
    images, masks = square_input(image, 32)[None], resize_mask(mask[None], [32, 32])
    first = float(trainer.batch_loss((images, masks))[0].detach())
    for _ in range(25):
        trainer.optimizer.zero_grad()
        loss = trainer.batch_loss((images, masks))[0]
        loss.backward()
        trainer.optimizer.step()
    assert float(loss.detach()) < 0.7 * first
    model.eval()
    wrong = torch.where(masks == 0, IGNORED, masks)
    nothing = torch.full_like(masks, IGNORED)
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(model(images), wrong, ignore_index=IGNORED)
        assert float(trainer.batch_loss((images, wrong))[0]) == pytest.approx(float(expected))
        assert float(trainer.batch_loss((images, nothing))[0]) == 0.0


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"segmentation_{name}", PROJECT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_scripts_train_evaluate_draw_and_export(
    root: Path, arch_file: Path, tmp_path: Path, capsys
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(config(root, arch_file, OUTPUT_DIR=tmp_path / "out").dump())
    assert load("train").main(["--config-file", str(file)]) == 0
    weights, picture = str(tmp_path / "out" / "model_final.pth"), tmp_path / "new" / "picture.png"
    arguments = ["--picture", str(picture), "--count", "2", weights]
    assert load("evaluate").main(arguments) == 0
    assert re.search(r"^miou +[01]\.\d{4}$", capsys.readouterr().out, re.MULTILINE)
    assert Image.open(picture).size == (4 + 3 * 324, 4 + 2 * 244)

    exported = tmp_path / "folder" / "x.onnx"
    assert load("export").main(["--count", "2", weights, str(exported)]) == 0
    said = capsys.readouterr().out
    assert "2 images" in said
    assert re.search(r"^on phones: NNAPI maybe, CoreML maybe", said, re.MULTILINE)
    segmenter = load_segmenter(weights)
    image = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        ours = segmenter.model(image).numpy()
    assert ours.std() > 0.01
    np.testing.assert_allclose(onnx.load(exported)(image.numpy()), ours, atol=1e-4)
    assert load("evaluate").main([str(arch_file)]) == 2  # no checkpoint: one line, no traceback
    torch.save({"model": {"w": torch.ones(1)}}, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="no checkpoint of a segmenter"):
        load_segmenter(tmp_path / "model.pth")


def test_a_file_with_other_outputs_is_not_left_behind(
    root: Path, arch_file: Path, tmp_path: Path, monkeypatch
) -> None:
    torch.manual_seed(0)
    cfg = config(root, arch_file)
    model = Segmenter(cfg).eval()
    load = onnx.load_outputs
    monkeypatch.setattr(
        onnx, "load_outputs", lambda *a: lambda images: [1.01 * out for out in load(*a)(images)]
    )
    with pytest.raises(UserError, match="relative error"):
        export_segmenter(
            TrainedSegmenter(model, cfg), tmp_path / "x.onnx", torch.rand(2, 3, 32, 32)
        )
    assert list(tmp_path.iterdir()) == []


def test_a_segmenter_is_written_for_phones(root: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    small_arch("hswish").save(tmp_path / "arch.yaml")
    found = {}
    for rewrites in ("auto", "phone"):
        cfg = config(root, tmp_path / "arch.yaml", EXPORT__REWRITES=(rewrites,))
        model = Segmenter(cfg)
        trained = TrainedSegmenter(model, cfg)
        report = export_segmenter(trained, tmp_path / "x.onnx", torch.rand(2, 3, 32, 32))
        assert all(module.training for module in model.modules())  # it stays as it is
        found[rewrites] = report.accelerators["CoreML"]
    assert found == {"auto": "no (HardSwish)", "phone": "maybe"}


def test_overlays_tint_objects_only() -> None:
    image = torch.full((3, 4, 6), 100, dtype=torch.uint8)
    mask = torch.zeros(4, 6, dtype=torch.int64)
    mask[1, 2], mask[2, 3], mask[3, 3] = 1, 2, IGNORED
    drawn = overlay(image, mask, 3)
    changed = (drawn != image).any(0)
    assert changed.nonzero().tolist() == [[1, 2], [2, 3]]
    assert drawn[0, 1, 2] > drawn[2, 1, 2]  # reddish
    assert drawn[0, 2, 3] < drawn[2, 2, 3]  # bluish
