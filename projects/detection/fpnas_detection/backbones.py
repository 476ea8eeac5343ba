"""The feature maps under a detector: fpnas' backbone, or one of torchvision's as a reference."""

from __future__ import annotations

import itertools
from functools import partial

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import Conv2dNormActivation
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from fpnas.config import CfgNode
from fpnas.config.checks import check_name, check_value
from fpnas.modeling import build_model
from fpnas.modeling.backbone import FeatureInfo

TORCHVISION_BACKBONES = ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")

# SSDLite's layers behind the backbone: channels of each, halving the map. Those of torchvision.
_EXTRA_CHANNELS = (512, 256, 256)


def build_backbone(cfg: CfgNode) -> nn.Module:
    """The network of ``cfg.MODEL``, or that of DETECTION.TORCHVISION_BACKBONE.

    Its children run one after the other and stand flat in order of execution; ``feature_info`` says
    which of them give feature maps, in timm's terms.

    Raises ConfigError if none is named, or if MODEL.OUT_FEATURES is empty.
    """
    name = cfg.DETECTION.TORCHVISION_BACKBONE
    if name:
        return _torchvision_backbone(name)
    features = cfg.MODEL.OUT_FEATURES
    check_value("MODEL.OUT_FEATURES", features, bool(features), "('auto',) or names of stages")
    return build_model(cfg)


def _torchvision_backbone(name: str) -> nn.Module:
    """``features`` of a MobileNet, with random weights and the last layer of strides 8, 16, 32."""
    check_name("DETECTION.TORCHVISION_BACKBONE", name, TORCHVISION_BACKBONES)
    layers = torchvision.models.get_model(name, weights=None).features.eval()
    side, last = 64, {}
    x = torch.zeros(1, 3, side, side)
    with torch.inference_mode():
        for child, layer in layers.named_children():
            x = layer(x)
            last[side // x.shape[-1]] = {
                "num_chs": x.shape[1], "reduction": side // x.shape[-1], "module": child,
            }  # fmt: skip
    layers.feature_info = FeatureInfo(last[stride] for stride in (8, 16, 32))
    return layers.train()


def with_pyramid(backbone: nn.Module, channels: int, top: ExtraFPNBlock) -> BackboneWithFPN:
    """torchvision's feature pyramid of ``channels`` on ``backbone``; ``top`` adds levels."""
    info = backbone.feature_info
    names = info.module_name()
    return BackboneWithFPN(backbone, {n: n for n in names}, info.channels(), channels, top)


class WithExtraLayers(nn.Module):
    """Feature maps of a backbone and of three light layers of stride 2 behind it, for SSDLite.

    ``[N, 3, H, W] -> {name: [N, C, h, w]}``; ``out_channels`` lists C.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        info = backbone.feature_info
        self.backbone = IntermediateLayerGetter(backbone, {n: n for n in info.module_name()})
        widths = [info.channels()[-1], *_EXTRA_CHANNELS]
        self.extra = nn.ModuleList(_halving_layer(*pair) for pair in itertools.pairwise(widths))
        self.out_channels = [*info.channels(), *_EXTRA_CHANNELS]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.backbone(x)
        x = list(maps.values())[-1]
        for number, layer in enumerate(self.extra):
            x = layer(x)
            maps[f"extra{number}"] = x
        return maps


# As torchvision has it in SSDLite: statistics of small batches are averaged over more of them.
SSDLITE_NORM = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)


def _halving_layer(in_channels: int, out_channels: int) -> nn.Sequential:
    """Narrow, halve the map by a depthwise convolution, widen."""
    middle = out_channels // 2
    conv = partial(Conv2dNormActivation, norm_layer=SSDLITE_NORM, activation_layer=nn.ReLU6)
    return nn.Sequential(
        conv(in_channels, middle, kernel_size=1),
        conv(middle, middle, kernel_size=3, stride=2, groups=middle),
        conv(middle, out_channels, kernel_size=1),
    )
