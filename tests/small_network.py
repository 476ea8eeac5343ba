"""A small network in a file that describes it, in place of a pretrained one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from fpnas.archs import Architecture
from fpnas.blocks import ConvSpec, HeadSpec, MBConvSpec
from fpnas.data import Preprocessing
from fpnas.modeling import SearchedNet
from fpnas.training.artifact import Description, TrainingCheckpointer


def save_network(folder: Path, classes: Sequence[str]) -> Path:
    """``folder``/small.pth: random weights for images of 16 px of these classes."""
    arch = Architecture(
        name="small",
        input_size=16,
        stem=ConvSpec(8, stride=2),
        stages=((MBConvSpec(16, stride=2, expansion=2), MBConvSpec(16, expansion=3)),),
        head=HeadSpec(32, num_classes=len(classes)),
    )
    torch.manual_seed(0)
    network = SearchedNet(arch)
    preprocessing = Preprocessing(16, 0.9, "bicubic", (0.5,) * 3, (0.5,) * 3)
    about = Description(arch, preprocessing, tuple(classes))
    TrainingCheckpointer(network, folder, about).write("small", {"model": network.state_dict()})
    return folder / "small.pth"
