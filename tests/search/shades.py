"""Noise of three shades, and a search on it from a network that knows other classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fpnas.archs import Architecture
from fpnas.blocks import ConvSpec, HeadSpec, MBConvSpec
from fpnas.config import CfgNode, find_config, get_cfg
from fpnas.data import DATASET_REGISTRY, ImageSet, Preprocessing, TensorImages
from fpnas.modeling import SearchedNet
from fpnas.spaces import NetworkSpace
from fpnas.training.artifact import Description, TrainingCheckpointer

SIDE = 16
CLASSES = ("dark", "grey", "light")
ORIGIN = Architecture(
    name="origin",
    input_size=SIDE,
    stem=ConvSpec(8, stride=2),
    stages=((MBConvSpec(16, stride=2, expansion=2), MBConvSpec(16, kernel=5, expansion=3)),),
    head=HeadSpec(32, num_classes=5),
)
SPACE = NetworkSpace.around(ORIGIN).at(SIDE, len(CLASSES))


@DATASET_REGISTRY.register(name="test_shades")
def shaded(cfg: CfgNode, split: str) -> ImageSet:
    """Three shades of noise, 16 images of each."""
    labels = torch.arange(48) % 3
    generator = torch.Generator().manual_seed(len(split))
    noise = torch.randint(60, (48, 3, SIDE, SIDE), generator=generator)
    images = (noise + 90 * labels[:, None, None, None]).to(torch.uint8)
    return TensorImages(images, labels, CLASSES)


def saved(folder: Path, classes: tuple[str, ...], arch: Architecture = ORIGIN) -> Path:
    """A network of ``arch`` for these classes, in a file that describes it."""
    torch.manual_seed(3)
    network = SearchedNet(arch.with_num_classes(len(classes)))
    preprocessing = Preprocessing(SIDE, 1.0, "bilinear", (0.5,) * 3, (0.5,) * 3)
    about = Description(network.arch, preprocessing, classes)
    TrainingCheckpointer(network, folder, about).write("origin", {"model": network.state_dict()})
    return folder / "origin.pth"


def make_cfg(folder: Path, weights: Path | str, **overrides: Any) -> CfgNode:
    """Two epochs of three steps that train, then one that rates; ``SEARCH__TARGET=1`` is a key."""
    cfg = get_cfg()
    cfg.merge_from_file(find_config("search/photos.yaml"))
    options = {
        "OUTPUT_DIR": folder / "search",
        "MODEL.WEIGHTS": weights,
        "DATA.NAME": "test_shades",
        "DATA.INPUT_SIZE": SIDE,
        "SOLVER.EPOCHS": 3,
        "SOLVER.BATCH_SIZE": 12,
        "SEARCH.FULL_EPOCHS": 2,
        "SEARCH.WARMUP_EPOCHS": 2,
        "SEARCH.VAL_BATCH_SIZE": 7,
        "SEARCH.NUM_SAMPLES": 4,
        "SEARCH.TARGET": 0.6 * SPACE.cost_range()[1],
        "LOG.TENSORBOARD": False,
        **{key.replace("__", "."): value for key, value in overrides.items()},
    }
    cfg.merge_from_list([str(part) for option in options.items() for part in option])
    return cfg
