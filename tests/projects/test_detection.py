"""The detection project: models, training with resume, evaluation, pictures, export."""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
from pathlib import Path

import onnx
import pytest
import torch
from detection_cases import config, needs_coco, small_arch
from PIL import Image
from torch import Tensor

from fpnas.data.preprocessing import square_input
from fpnas.errors import CheckpointError, ConfigError, UserError
from fpnas.modeling import SearchedNet
from fpnas.utils.checkpoint import read_checkpoint
from fpnas_detection.config import config_from_args
from fpnas_detection.export import (
    TOLERANCE,
    export_detector,
    load_exported,
    partner_distances,
)
from fpnas_detection.inference import TrainedDetector, draw_detections, load_detector
from fpnas_detection.models import build_detector
from fpnas_detection.readers import read_voc
from fpnas_detection.run import DetectionTrainer, _initial_model, run_training

PROJECT = Path(__file__).parents[2] / "projects" / "detection"
CONFIGS = sorted((PROJECT / "configs").glob("bccd_*.yaml"))
DETECTORS = ("retinanet", "fasterrcnn", "ssdlite")


def targets() -> list[dict[str, Tensor]]:
    boxes = torch.tensor([[5.0, 5.0, 30.0, 40.0], [20.0, 10.0, 60.0, 50.0]])
    return [{"boxes": boxes, "labels": torch.tensor([1, 2])}] * 2


# Models -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("detector", DETECTORS)
def test_detectors_train_and_detect(arch_file: Path, detector: str) -> None:
    torch.manual_seed(0)
    model = build_detector(config(arch_file, detector, DETECTION__SCORE_THRESHOLD=0.001), 2)
    losses = model(list(torch.rand(2, 3, 64, 64)), targets())
    assert len(losses) >= 2
    sum(losses.values()).backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    # An image of another size is resized inside; its boxes are in its own pixels.
    found = model.eval()([torch.rand(3, 40, 130)])[0]
    assert len(found["boxes"]) > 0
    assert found["boxes"][:, 2].max() > 64
    assert (found["boxes"] >= 0).all()
    assert (found["boxes"].amax(0) <= torch.tensor([130, 40, 130, 40]) + 1e-3).all()
    assert set(found["labels"].tolist()) <= {1, 2}


def test_levels_and_anchors_follow_the_strides(arch_file: Path) -> None:
    model = build_detector(config(arch_file, "retinanet"), 2)
    maps = model.backbone(torch.zeros(1, 3, 64, 64))
    assert [m.shape[-1] for m in maps.values()] == [8, 4, 2, 1, 1]
    smallest = [sizes[0] for sizes in model.anchor_generator.sizes]
    assert smallest == [16, 32, 64, 128, 256]
    model = build_detector(config(arch_file, "fasterrcnn"), 2)
    assert [sizes[0] for sizes in model.rpn.anchor_generator.sizes] == [32, 64, 128, 256]
    model = build_detector(config(arch_file, "ssdlite"), 2)
    assert [m.shape[-1] for m in model.backbone(torch.zeros(2, 3, 64, 64)).values()][:4] == [
        *(8, 4, 2, 1)
    ]


def test_torchvision_backbone_has_the_same_levels(arch_file: Path) -> None:
    keys = {"MODEL__ARCH": "", "DETECTION__TORCHVISION_BACKBONE": "mobilenet_v3_small"}
    model = build_detector(config(arch_file, "retinanet", **keys), 2)
    maps = model.backbone(torch.zeros(2, 3, 64, 64))
    assert [m.shape[-1] for m in maps.values()] == [8, 4, 2, 1, 1]


def test_notes_name_the_normalisation_of_the_weights(arch_file: Path) -> None:
    keys = {"MODEL__ARCH": "fp_nas_c10_xs", "MODEL__WEIGHTS": "zoo://fp_nas_c10_xs"}
    _, notes = _initial_model(config(arch_file, **keys, DATA__STD=(1.0, 1.0, 1.0)), 3, False)
    assert any("DATA.STD (0.229, 0.224, 0.225)" in note for note in notes)
    assert not any("DATA.MEAN" in note for note in notes)


def test_frozen_stages_stay_frozen_in_the_detector(arch_file: Path) -> None:
    model = build_detector(config(arch_file, "retinanet", MODEL__FREEZE_STAGES=1), 2).train()
    body = model.backbone.body
    assert not any(p.requires_grad for p in [*body.stem.parameters(), *body.stage1.parameters()])
    assert all(p.requires_grad for p in body.stage2.parameters())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("DETECTION.ARCH", "yolo"),
        ("DETECTION.FPN_CHANNELS", "20"),
        ("DETECTION.ZOOM", "(1.5, 1.0)"),
        ("DETECTION.SCORE_THRESHOLD", "2"),
        ("MODEL.NUM_CLASSES", "3"),
        ("SOLVER.LABEL_SMOOTHING", "0.1"),
        ("SOLVER.DISTILL.WEIGHTS", "x.pth"),
        ("DATA.SKIP_CORRUPT", "True"),
        ("EXPORT.BAKE_PREPROCESS", "True"),
        ("EXPORT.REWRITES", "('nonsense',)"),
    ],
)
def test_unusable_values_are_named(arch_file: Path, key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=key):
        config(arch_file, **{key.replace(".", "__"): value})


@pytest.mark.parametrize(("key", "value"), [("ARCH", "x"), ("NORM", "FrozenBN")])
def test_a_backbone_of_torchvision_reads_no_key_of_model(
    arch_file: Path, key: str, value: str
) -> None:
    keys = {"MODEL__ARCH": "", "DETECTION__TORCHVISION_BACKBONE": "mobilenet_v3_small"}
    with pytest.raises(ConfigError, match=f"MODEL.{key} .*TORCHVISION_BACKBONE"):
        config(arch_file, **keys | {f"MODEL__{key}": value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("DETECTION.ANCHOR_SIZES", "(8, 16)"),
        ("DETECTION.TORCHVISION_BACKBONE", "mobilenet_v3_small"),  # and MODEL.ARCH
        ("MODEL.OUT_FEATURES", "()"),
    ],
)
def test_values_that_do_not_fit_the_model_are_named(arch_file: Path, key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=key):
        build_detector(config(arch_file, "retinanet", **{key.replace(".", "__"): value}), 2)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_configs_are_valid_and_in_the_readme(file: Path) -> None:
    cfg = config_from_args(argparse.Namespace(config_file=str(file), opts=[]))
    assert cfg.SOLVER.EPOCHS >= 1
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert file.stem in readme
    assert set(re.findall(r"configs/(bccd\w+)\.yaml", readme)) <= {f.stem for f in CONFIGS}


# Training -----------------------------------------------------------------------------------------


@needs_coco
@pytest.mark.parametrize(("detector", "ema"), [("ssdlite", 0.5), ("fasterrcnn", 0.0)])
def test_resumed_training_ends_with_the_same_bits(
    voc: Path, arch_file: Path, tmp_path: Path, monkeypatch, detector: str, ema: float
) -> None:
    keys = {"DATA__ROOT": voc, "SOLVER__EPOCHS": 2, "SOLVER__EMA_DECAY": ema}
    keys |= {"CHECKPOINT__PERIOD": 1, "TEST__PERIOD": 1, "LOG__PERIOD": 1}
    whole = config(arch_file, detector, OUTPUT_DIR=tmp_path / "whole", **keys)
    result = run_training(whole)
    assert 0 <= result["map"] <= result["map50"] <= 1

    stopped = config(arch_file, detector, OUTPUT_DIR=tmp_path / "stopped", **keys)
    step = DetectionTrainer.run_step

    def stop_at_4(self: DetectionTrainer) -> None:
        if self.iter == 4:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(DetectionTrainer, "run_step", stop_at_4)
        run_training(stopped)
    assert not (tmp_path / "stopped" / "model_final.pth").exists()
    assert run_training(stopped, resume=True) == result

    expected = read_checkpoint(tmp_path / "whole" / "model_final.pth")
    found = read_checkpoint(tmp_path / "stopped" / "model_final.pth")
    assert found["model"].keys() == expected["model"].keys()
    assert all(torch.equal(found["model"][name], w) for name, w in expected["model"].items())
    lines = (tmp_path / "stopped" / "metrics.json").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["iteration"] for record in records] == list(range(6))
    assert {"loss", "lr", "grad_norm", "time"} <= records[0].keys()
    assert "val_map50" in records[2]


@needs_coco
def test_a_failed_resumption_leaves_the_files_of_the_run(
    voc: Path, arch_file: Path, tmp_path: Path
) -> None:
    keys = {"DATA__ROOT": voc, "OUTPUT_DIR": tmp_path / "out", "MODEL__WEIGHTS": tmp_path / "w.pth"}
    torch.save(SearchedNet(small_arch()).state_dict(), tmp_path / "w.pth")
    run_training(config(arch_file, "ssdlite", **keys))
    log = (tmp_path / "out" / "log.txt").read_text()
    assert "WARNING" in log and "dropped what the backbone does not have: head" in log

    before = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    for detector, bad, words in (
        ("retinanet", {}, "does not fit"),
        ("ssdlite", {"DETECTION__ANCHOR_SIZES": (8,)}, "ANCHOR_SIZES"),
        ("ssdlite", {"SOLVER__BATCH_SIZE": 7}, "BATCH_SIZE"),
    ):
        with pytest.raises(UserError, match=words):
            run_training(config(arch_file, detector, **keys | bad), resume=True, allow_changes=True)
    after = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert after == before


def test_a_training_that_cannot_start_writes_nothing(
    voc: Path, arch_file: Path, tmp_path: Path
) -> None:
    keys = {"DATA__ROOT": voc, "OUTPUT_DIR": tmp_path / "out"}
    with pytest.raises(CheckpointError, match="none.pth"):
        run_training(config(arch_file, MODEL__WEIGHTS=tmp_path / "none.pth", **keys), resume=True)
    assert not (tmp_path / "out").exists()


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"detection_{name}", PROJECT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_coco
def test_scripts_train_evaluate_detect_and_export(
    voc: Path, arch_file: Path, tmp_path: Path, capsys
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        config(arch_file, "ssdlite", DATA__ROOT=voc, OUTPUT_DIR=tmp_path / "out").dump()
    )
    assert load("train").main(["--config-file", str(file)]) == 0
    weights = str(tmp_path / "out" / "model_final.pth")
    result = read_checkpoint(weights)
    assert result["detection_classes"] == ["blue", "red"]

    assert load("evaluate").main([weights]) == 0
    assert re.search(r"^map50 +[01]\.\d{4}$", capsys.readouterr().out, re.MULTILINE)

    photos = [str(voc / "JPEGImages" / f"image{number}.jpg") for number in range(2)]
    picture = tmp_path / "new" / "picture.png"
    arguments = [weights, *photos, "--output", str(picture), "--threshold", "0"]
    assert load("detect").main(arguments) == 0
    assert Image.open(picture).size == (4 + 2 * 404, 4 + 304)
    assert load("detect").main([weights, *photos, "--output", str(tmp_path / "x.onnx")]) == 2

    exported = tmp_path / "folder" / "x.onnx"
    assert load("export").main(["--count", "2", weights, str(exported)]) == 0
    said = capsys.readouterr().out
    assert "2 images" in said
    assert re.search(r"^on phones: NNAPI no \(.*NonMaxSuppression.*, CoreML no", said, re.MULTILINE)
    data = read_voc(voc, "val")
    images = torch.stack([square_input(data.image(index), 64) for index in range(3)])
    assert_same_detections(load_detector(weights).model, exported, images)
    assert load("export").main(["--count", "0", weights, str(exported)]) == 2

    assert load("evaluate").main([str(arch_file)]) == 2  # no checkpoint: one line, no traceback


def test_a_classifier_is_no_detector(tmp_path: Path) -> None:
    torch.save({"model": {"w": torch.ones(1)}}, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="no checkpoint of a detector"):
        load_detector(tmp_path / "model.pth")


# Pictures and export ------------------------------------------------------------------------------


def test_pictures_show_what_is_above_the_threshold() -> None:
    image = torch.full((3, 60, 80), 255, dtype=torch.uint8)
    found = {
        "boxes": torch.tensor([[10.0, 20.0, 30.0, 50.0], [40.0, 20.0, 70.0, 50.0]]),
        "labels": torch.tensor([1, 2]),
        "scores": torch.tensor([0.9, 0.4]),
    }
    drawn = draw_detections(image, found, ("a", "b"), threshold=0.5)
    assert drawn[:, 40, 10].tolist() == [0x00, 0x72, 0xB2]
    assert (drawn[:, 40, 40] == 255).all()
    assert (image == 255).all()


def assert_same_detections(model: torch.nn.Module, file: Path, images: Tensor) -> None:
    run = load_exported(file)
    for image in images:
        with torch.inference_mode():
            ours, theirs = model([image])[0], run(image[None].numpy())
        assert len(ours["boxes"]) > 10
        assert theirs["scores"].tolist() == pytest.approx(ours["scores"].tolist(), abs=1e-4)
        limit = float(ours["scores"].min()) + 1e-3
        assert partner_distances(ours, theirs, limit).max() <= 0.01
        assert partner_distances(theirs, ours, limit).max() <= 0.01


# SSDLite: in the test of the scripts.
def test_exported_retinanet_detects_as_in_pytorch(arch_file: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    keys = {"DETECTION__SCORE_THRESHOLD": 0.001, "DETECTION__MAX_DETECTIONS": 20}
    keys |= {"MODEL__OUT_FEATURES": ("stage3",)}
    cfg = config(arch_file, "retinanet", **keys)
    model = build_detector(cfg, 2)
    for parameter in model.head.parameters():  # scores that differ, boxes that are no anchors
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    images = torch.rand(3, 3, 64, 64)
    report = export_detector(TrainedDetector(model, cfg, ("a", "b")), tmp_path / "x.onnx", images)
    assert all(module.training for module in model.modules())  # it stays as it is
    model.eval()
    assert report.detections > 40
    assert report.max_difference <= TOLERANCE
    assert_same_detections(model, tmp_path / "x.onnx", images)
    # Of another detector it is not right.
    with torch.no_grad():
        model.head.regression_head.bbox_reg.bias += 0.5
    with pytest.raises(AssertionError):
        assert_same_detections(model, tmp_path / "x.onnx", images)


def test_faster_rcnn_is_not_exported(arch_file: Path, tmp_path: Path) -> None:
    cfg = config(arch_file, "fasterrcnn")
    trained = TrainedDetector(build_detector(cfg, 2).eval(), cfg, ("a", "b"))
    with pytest.raises(UserError, match="fasterrcnn"):
        export_detector(trained, tmp_path / "x.onnx", torch.rand(2, 3, 64, 64))
    assert list(tmp_path.iterdir()) == []


def test_a_detector_is_written_for_phones(arch_file: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    small_arch("hswish").save(tmp_path / "arch.yaml")
    operators = {}
    for rewrites in ("auto", "phone"):
        keys = {"DETECTION__SCORE_THRESHOLD": 0.001, "EXPORT__REWRITES": (rewrites,)}
        cfg = config(tmp_path / "arch.yaml", "ssdlite", **keys)
        trained = TrainedDetector(build_detector(cfg, 2).eval(), cfg, ("a", "b"))
        export_detector(trained, tmp_path / "x.onnx", torch.rand(1, 3, 64, 64))
        graph = onnx.load(tmp_path / "x.onnx").graph
        operators[rewrites] = {node.op_type for node in graph.node}
    assert "HardSwish" in operators["auto"]
    assert "HardSwish" not in operators["phone"]


def test_partners_are_near_and_of_the_same_class() -> None:
    one = {
        "boxes": torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]]),
        "labels": torch.tensor([1, 2, 1]),
        "scores": torch.tensor([0.9, 0.8, 0.1]),
    }
    other = {name: value[:1] for name, value in one.items()}
    other["boxes"] = other["boxes"] + torch.tensor([0.0, 0.25, 0, -0.125])
    assert partner_distances(one, other, limit=0.5).tolist() == [0.25, float("inf")]
    assert partner_distances(other, one, limit=0.5).tolist() == [0.25]
    empty = {name: value[:0] for name, value in one.items()}
    assert partner_distances(one, empty, limit=0.0).isinf().all()
    assert len(partner_distances(empty, one, limit=0.0)) == 0
