"""Small image folders for the tests of fpnas.data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from fpnas.config import CfgNode, get_cfg
from fpnas.data import TensorImages
from fpnas.utils.rng import generator_for

MakeFolder = Callable[..., Path]


@pytest.fixture
def cfg() -> CfgNode:
    """Defaults for 12 x 12 px images, no workers, so that tests start fast."""
    cfg = get_cfg()
    cfg.DATA.NAME = "image_folder"
    cfg.DATA.INPUT_SIZE = 12
    cfg.DATA.NUM_WORKERS = 0
    return cfg


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """make_folder("train/cat", 5) writes five random images, 0.png to 4.png."""

    def make(folder: str, count: int, size: tuple[int, int] = (12, 12)) -> Path:
        target = tmp_path / folder
        target.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            generator = generator_for(folder, index)
            pixels = torch.randint(256, (3, *size), dtype=torch.uint8, generator=generator)
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(target / f"{index}.png")
        return target

    return make


@pytest.fixture
def two_classes(cfg: CfgNode, make_folder: MakeFolder, tmp_path: Path) -> CfgNode:
    """Config of a folder: train with 7 cats and 6 dogs, val with 3 and 2."""
    for folder, count in (("train/cat", 7), ("train/dog", 6), ("val/cat", 3), ("val/dog", 2)):
        make_folder(folder, count)
    cfg.DATA.ROOT = str(tmp_path)
    return cfg


@pytest.fixture
def in_memory() -> TensorImages:
    """26 random 12 x 12 px images of 4 classes."""
    generator = generator_for("in_memory")
    pixels = torch.randint(256, (26, 3, 12, 12), dtype=torch.uint8, generator=generator)
    return TensorImages(pixels, torch.arange(26) % 4, ("a", "b", "c", "d"))
