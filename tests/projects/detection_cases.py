"""A small backbone, a small data set in VOC's layout and configs for the tests of detectors."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from fpnas.archs import Architecture
from fpnas.blocks import ConvSpec, HeadSpec, MBConvSpec
from fpnas.config import CfgNode
from fpnas_detection.config import check_config, get_detection_cfg

COLOURS = {"blue": (0, 0, 255), "red": (255, 0, 0)}
WIDTH, HEIGHT = 80, 60

needs_coco = pytest.mark.skipif(
    importlib.util.find_spec("pycocotools") is None, reason="needs pycocotools"
)


def small_arch(act: str = "relu6") -> Architecture:
    """Strides 2, 4, 8, 16, 32."""

    def stage(channels: int, stride: int) -> tuple[MBConvSpec, ...]:
        return (MBConvSpec(channels, stride, 3, 2.0, act),)

    return Architecture(
        name="small",
        input_size=64,
        stem=ConvSpec(8, 3, 2, "relu6"),
        stages=(stage(8, 2), stage(16, 2), stage(24, 2), stage(32, 2)),
        head=HeadSpec(16, num_classes=2),
    )


def write_voc(root: Path, count: int = 6) -> None:
    """Coloured rectangles on grey, one or two an image: one blue, then a red one."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    names = [f"image{number}" for number in range(count)]
    for number, name in enumerate(names):
        picture = Image.new("RGB", (WIDTH, HEIGHT), (128, 128, 128))
        objects = ""
        for label, (colour, rgb) in enumerate(list(COLOURS.items())[: 1 + number % 2]):
            x1, y1 = 5 + 3 * number + 30 * label, 8 + 2 * number
            x2, y2 = x1 + 23, y1 + 17
            ImageDraw.Draw(picture).rectangle((x1, y1, x2 - 1, y2 - 1), fill=rgb)
            objects += voc_object(colour, x1 + 1, y1 + 1, x2, y2)
        picture.save(root / "JPEGImages" / f"{name}.jpg", quality=95, subsampling=0)
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")
    for split in ("train", "val"):
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names))


def voc_object(name: str, x1: int, y1: int, x2: int, y2: int, difficult: int = 0) -> str:
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x1}</xmin>"
        f"<ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
    )


def config(arch_file: Path, detector: str = "ssdlite", **overrides: object) -> CfgNode:
    cfg = get_detection_cfg()
    cfg.MODEL.ARCH = str(arch_file)
    cfg.DETECTION.ARCH = detector
    cfg.DETECTION.FPN_CHANNELS = 16
    cfg.DETECTION.BOX_HEAD_CHANNELS = 16
    cfg.DATA.INPUT_SIZE = 64
    cfg.DATA.NUM_WORKERS = 0
    cfg.SOLVER.BATCH_SIZE = 2
    cfg.SOLVER.EPOCHS = 1
    cfg.SOLVER.LR = 0.01
    for key, value in overrides.items():
        cfg.merge_from_list([key.replace("__", "."), str(value)])
    check_config(cfg)
    return cfg
