"""From a config to a detector of torchvision.

All of them see squares of DATA.INPUT_SIZE, S. Images of another size are resized in the detector;
its boxes are in the pixels of the image that it was given.

| detector | levels, with the usual three maps of stride 8, 16 and 32 | default anchors |
| --- | --- | --- |
| retinanet | these, and two more of stride 64 and 128 | 2 strides; times 1, 2^(1/3), 2^(2/3) |
| fasterrcnn | these, and one more of stride 64 | 4 strides |
| ssdlite | these, and three more down to stride 256 | shares of S, from 0.075 to 0.8 |

torchvision's own defaults are for images of 800 px; those above fit objects of 20 to 300 px in
images of 320.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from fpnas.config import CfgNode
from fpnas.config.checks import check_value
from fpnas_detection.backbones import SSDLITE_NORM, WithExtraLayers, build_backbone, with_pyramid

_RATIOS = (0.5, 1.0, 2.0)
_SSD_SHARES = (0.075, 0.15, 0.25, 0.4, 0.6, 0.8)
_GROUP = 16  # channels of a group of GroupNorm
_ROI_SIDE = 7


def build_detector(cfg: CfgNode, num_classes: int, backbone: nn.Module | None = None) -> nn.Module:
    """The detector of ``cfg``, with MODEL.WEIGHTS in its backbone if there are any.

    It is called as torchvision's: in eval mode with a list of images float32 [3, H, W] in [0, 1],
    which gives a dict of boxes, labels and scores for each; in training mode with targets, too,
    which gives a dict of losses.

    Args:
        cfg: MODEL, DATA.INPUT_SIZE, MEAN and STD, and DETECTION are read.
        num_classes: without the background.
        backbone: in place of that of ``cfg``; of the same form.

    Raises ConfigError on unusable keys.
    """
    build = {"retinanet": _retinanet, "fasterrcnn": _faster_rcnn, "ssdlite": _ssdlite}
    backbone = build_backbone(cfg) if backbone is None else backbone
    return build[cfg.DETECTION.ARCH](cfg, backbone, num_classes + 1)


def _retinanet(cfg: CfgNode, backbone: nn.Module, num_outputs: int) -> RetinaNet:
    keys = cfg.DETECTION
    width = keys.FPN_CHANNELS
    strides = backbone.feature_info.reduction()
    strides += [2 * strides[-1], 4 * strides[-1]]
    sides = _anchor_sizes(cfg, [2 * stride for stride in strides])
    anchors = AnchorGenerator(
        tuple(tuple(side * 2 ** (step / 3) for step in range(3)) for side in sides),
        (_RATIOS,) * len(sides),
    )
    # GroupNorm in the head: with few images in a batch it trains from random weights, too.
    head = _ForegroundHead(
        width, anchors.num_anchors_per_location()[0], num_outputs,
        norm_layer=lambda channels: nn.GroupNorm(channels // _GROUP, channels),
    )  # fmt: skip
    return RetinaNet(
        with_pyramid(backbone, width, LastLevelP6P7(width, width)),
        num_outputs,
        anchor_generator=anchors,
        head=head,
        score_thresh=keys.SCORE_THRESHOLD,
        nms_thresh=keys.NMS_THRESHOLD,
        detections_per_img=keys.MAX_DETECTIONS,
        topk_candidates=400,
        **_input(cfg),
    )


class _ForegroundHead(RetinaNetHead):
    """torchvision's head, which never detects its class 0: labels begin at 1 in all detectors."""

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        outputs = super().forward(x)
        if not self.training:
            logits = outputs["cls_logits"][..., 1:]
            outputs["cls_logits"] = nn.functional.pad(logits, (1, 0), value=-torch.inf)
        return outputs


def _faster_rcnn(cfg: CfgNode, backbone: nn.Module, num_outputs: int) -> FasterRCNN:
    keys = cfg.DETECTION
    names = backbone.feature_info.module_name()
    strides = backbone.feature_info.reduction()
    sides = _anchor_sizes(cfg, [4 * stride for stride in [*strides, 2 * strides[-1]]])
    return FasterRCNN(
        with_pyramid(backbone, keys.FPN_CHANNELS, LastLevelMaxPool()),
        rpn_anchor_generator=AnchorGenerator(
            tuple((side,) for side in sides), (_RATIOS,) * len(sides)
        ),
        rpn_pre_nms_top_n_train=1000,
        rpn_post_nms_top_n_train=300,
        rpn_pre_nms_top_n_test=300,
        rpn_post_nms_top_n_test=150,
        box_roi_pool=MultiScaleRoIAlign(names, _ROI_SIDE, sampling_ratio=2),
        box_head=TwoMLPHead(keys.FPN_CHANNELS * _ROI_SIDE**2, keys.BOX_HEAD_CHANNELS),
        box_predictor=FastRCNNPredictor(keys.BOX_HEAD_CHANNELS, num_outputs),
        box_batch_size_per_image=128,
        box_score_thresh=keys.SCORE_THRESHOLD,
        box_nms_thresh=keys.NMS_THRESHOLD,
        box_detections_per_img=keys.MAX_DETECTIONS,
        **_input(cfg),
    )


def _ssdlite(cfg: CfgNode, backbone: nn.Module, num_outputs: int) -> SSD:
    keys, side = cfg.DETECTION, cfg.DATA.INPUT_SIZE
    maps = WithExtraLayers(backbone)
    levels = len(maps.out_channels)
    shares = _SSD_SHARES[-levels:]
    sides = _anchor_sizes(cfg, [share * side for share in shares], levels)
    boxes = DefaultBoxGenerator([[2, 3]] * levels, scales=[*(s / side for s in sides), 1.0])
    counts = boxes.num_anchors_per_location()
    return SSD(
        maps,
        boxes,
        (side, side),
        num_outputs,
        head=SSDLiteHead(maps.out_channels, counts, num_outputs, SSDLITE_NORM),
        image_mean=list(cfg.DATA.MEAN),
        image_std=list(cfg.DATA.STD),
        score_thresh=keys.SCORE_THRESHOLD,
        nms_thresh=keys.NMS_THRESHOLD,
        detections_per_img=keys.MAX_DETECTIONS,
        topk_candidates=300,
    )


def _input(cfg: CfgNode) -> dict[str, Any]:
    """What the detector does with images: squares of S, neither padded nor resized otherwise."""
    side = cfg.DATA.INPUT_SIZE
    return {
        "min_size": side,
        "max_size": side,
        "fixed_size": (side, side),
        "size_divisible": 1,
        "image_mean": list(cfg.DATA.MEAN),
        "image_std": list(cfg.DATA.STD),
    }


def _anchor_sizes(cfg: CfgNode, default: list[float], levels: int = 0) -> list[float]:
    """Side of the anchors of each level, px. ConfigError if the config has another number."""
    found = cfg.DETECTION.ANCHOR_SIZES
    levels = levels or len(default)
    right = len(found) == levels and all(size > 0 for size in found)
    if not found and len(default) == levels:
        return default
    check_value(
        "DETECTION.ANCHOR_SIZES", found, right,
        f"{levels} sizes above 0, one for each level" + " or ()" * (len(default) == levels),
    )  # fmt: skip
    return list(found)
