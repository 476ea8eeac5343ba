"""LR-ASPP of torchvision on a backbone of fpnas [Howard et al. 2019, Searching for MobileNetV3]."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation.lraspp import LRASPP

from fpnas.config import CfgNode
from fpnas.config.checks import check_value
from fpnas.errors import ConfigError
from fpnas.modeling import SearchedBackbone, build_model


class Segmenter(nn.Module):
    """Images [N, 3, H, W] in [0, 1] -> logits [N, num_classes, H, W].

    Args:
        cfg: MODEL, DATA.MEAN and STD, and SEGMENTATION are read.
        backbone: from :func:`build_backbone`. None: that of ``cfg``, with MODEL.WEIGHTS.

    The head sees the last of the backbone's maps, of stride MODEL.OUTPUT_STRIDE, and the last one
    of a smaller stride. Raises ConfigError if there is none.
    """

    def __init__(self, cfg: CfgNode, backbone: SearchedBackbone | None = None) -> None:
        super().__init__()
        backbone = build_backbone(cfg) if backbone is None else backbone
        high = backbone.feature_info[-1]
        finer = [e for e in backbone.feature_info if e["reduction"] < high["reduction"]]
        if not finer:
            raise ConfigError(
                f"MODEL.OUT_FEATURES is {tuple(cfg.MODEL.OUT_FEATURES)!r}: LR-ASPP needs maps of "
                "two strides. Valid: ('auto',) or names of such stages."
            )
        low = finer[-1]
        self.net = LRASPP(
            IntermediateLayerGetter(backbone, {low["module"]: "low", high["module"]: "high"}),
            low["num_chs"],
            high["num_chs"],
            len(cfg.SEGMENTATION.CLASSES),
            cfg.SEGMENTATION.HEAD_CHANNELS,
        )
        for name, values in (("mean", cfg.DATA.MEAN), ("std", cfg.DATA.STD)):
            column = torch.tensor(list(values))[:, None, None]
            self.register_buffer(name, column, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.net((images - self.mean) / self.std)["out"]


def build_backbone(cfg: CfgNode) -> SearchedBackbone:
    """The backbone of ``cfg.MODEL``, with MODEL.WEIGHTS. ConfigError if OUT_FEATURES is empty."""
    features = cfg.MODEL.OUT_FEATURES
    check_value("MODEL.OUT_FEATURES", features, bool(features), "('auto',) or names of stages")
    return build_model(cfg)
