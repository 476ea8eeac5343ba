"""A folder of tiny images that can be learned, a tiny architecture, and a config for both."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.io import write_png

from fpnas.archs import Architecture
from fpnas.config import CfgNode, get_cfg
from fpnas.spaces import get_space

COLOURS = {"black": (0, 0, 0), "blue": (0, 0, 200), "green": (0, 200, 0), "red": (200, 0, 0),
           "white": (200, 200, 200), "yellow": (200, 200, 0)}  # fmt: skip
SIDE = 12


@pytest.fixture(scope="session")
def image_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes of noisy colours, 8 training and 3 test images of each."""
    root = tmp_path_factory.mktemp("colours")
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 8), ("val", 3)):
        for name, colour in COLOURS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                noise = torch.randint(56, (3, SIDE, SIDE), generator=generator)
                pixels = (noise + torch.tensor(colour)[:, None, None]).to(torch.uint8)
                write_png(pixels, str(folder / f"{index}.png"))
    return root


@pytest.fixture(scope="session")
def arch() -> Architecture:
    """The smallest network of FP-NAS-Micro (one with shortcuts), for six classes."""
    space = get_space("FP-NAS-Micro").at(input_size=SIDE, num_classes=len(COLOURS))
    return space.architecture(torch.zeros(len(space.variables), dtype=torch.long), "tiny")


@pytest.fixture(scope="session")
def arch_file(arch: Architecture, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("arch") / "tiny.yaml"
    arch.save(file)
    return file


@pytest.fixture
def cfg(image_root: Path, arch_file: Path, tmp_path: Path) -> CfgNode:
    """Three epochs of four steps, with everything random switched on. Not frozen."""
    cfg = get_cfg()
    cfg.merge_from_list(
        [
            *("OUTPUT_DIR", str(tmp_path / "out")),
            *("MODEL.ARCH", str(arch_file)),
            *("MODEL.DROPOUT", "0.1", "MODEL.DROP_PATH", "0.2"),
            *("DATA.NAME", "image_folder", "DATA.ROOT", str(image_root)),
            *("DATA.INPUT_SIZE", str(SIDE), "DATA.NUM_WORKERS", "0"),
            *("SOLVER.EPOCHS", "3", "SOLVER.BATCH_SIZE", "12", "SOLVER.LR", "0.05"),
            *("LOG.PERIOD", "1", "LOG.TENSORBOARD", "False"),
        ]
    )
    return cfg
