"""A small network with the strides of an ImageNet network, for the tests of backbones."""

from __future__ import annotations

import torch
from torch import nn

from fpnas.archs import Architecture
from fpnas.blocks import ConvSpec, HeadSpec, MBConvSpec, SkipSpec
from fpnas.config import CfgNode, get_cfg
from fpnas.modeling import SearchedNet


def small_arch(
    padding: str = "symmetric", splits: int = 0, shortcut: str = "equal", **changes
) -> Architecture:
    """Strides 2, 2, 4, 8, 16, 16, 32; 5 classes."""

    def block(channels: int, stride: int = 1, kernel: int = 3) -> MBConvSpec:
        return MBConvSpec(
            channels, stride, kernel, 2.0, "relu6", splits, padding=padding, shortcut=shortcut
        )

    parts = {
        "name": "small",
        "input_size": 64,
        "stem": ConvSpec(8, 3, 2, "relu6", padding=padding),
        "stages": (
            (block(8),),
            (block(12, 2, 5), block(12)),
            (block(16, 2),),
            (block(24, 2), block(24, 1, 5)),
            (block(24),),
            (block(32, 2, 5), SkipSpec(32), block(32)),
        ),
        "head": HeadSpec(24, num_classes=5),
        "bn_eps": 1e-3,
    }
    return Architecture(**{**parts, **changes})


def small_net(arch: Architecture | None = None, seed: int = 0, **keys: float) -> SearchedNet:
    """In eval mode, its BatchNorms far from the identity."""
    torch.manual_seed(seed)
    net = SearchedNet(arch or small_arch(), **keys)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
            layer.running_mean.normal_(std=0.3)
            layer.running_var.uniform_(0.5, 1.5)
    return net.eval()


def config(**model: object) -> CfgNode:
    cfg = get_cfg()
    for key, value in model.items():
        cfg.MODEL[key] = value
    return cfg


def weights_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the state, without BatchNorm's counters, which a frozen one does not have."""
    return {
        name: value.clone()
        for name, value in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
