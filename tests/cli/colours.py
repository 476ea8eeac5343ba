"""A network that names plain colours, and photos for it."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from fpnas.archs import Architecture
from fpnas.blocks import ConvSpec, HeadSpec, MBConvSpec
from fpnas.data import Preprocessing
from fpnas.modeling import SearchedNet

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}
CLASSES = ("Red", "Green", "Blue", "none of these")
PREPROCESSING = Preprocessing(16, 1.0, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def colour_net() -> SearchedNet:
    """A network whose logits 0 to 2 are the mean red, green and blue, 3 is far below."""
    arch = Architecture(
        name="colours",
        input_size=16,
        stem=ConvSpec(8, kernel=1, act="relu"),
        stages=((MBConvSpec(8, expansion=1, kernel=1),),),
        head=HeadSpec(8, num_classes=len(CLASSES), act="relu"),
    )
    net = SearchedNet(arch).eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.dirac_(module.weight, groups=module.groups)
        net.head.fc.weight.copy_(10 * torch.eye(len(CLASSES), 8))
        net.head.fc.bias.copy_(torch.tensor([0.0, 0.0, 0.0, -10.0]))
    return net


def save_colour(path, name, size=(24, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.broadcast_to(np.uint8(COLOURS[name]), (*size, 3))
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)
    return str(path)
