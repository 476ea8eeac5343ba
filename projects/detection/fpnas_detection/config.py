"""The config of a detector: fpnas' own tree with DETECTION beside it, and other defaults."""

from __future__ import annotations

import argparse

from fpnas.config import CfgNode
from fpnas.config.checks import check_name, check_value
from fpnas_tasks.config import check_task, checked_from_args, task_cfg

ARCHS = ("retinanet", "fasterrcnn", "ssdlite")
DATASETS = ("voc", "coco")


def get_detection_cfg() -> CfgNode:
    """A copy of the default config, for ``merge_from_file`` and ``merge_from_list`` to change.

    See :func:`fpnas_tasks.config.task_cfg` for the keys of fpnas.
    """
    keys = CfgNode()
    # "retinanet", "fasterrcnn" or "ssdlite".
    keys.ARCH = "retinanet"
    # A backbone of torchvision, without weights, in place of MODEL.ARCH: "mobilenet_v3_large",
    # "mobilenet_v3_small" or "mobilenet_v2".
    keys.TORCHVISION_BACKBONE = ""
    # Channels of the feature pyramid and of RetinaNet's head, a multiple of 16. SSDLite has none.
    keys.FPN_CHANNELS = 64
    # Width of the two layers behind each region of Faster R-CNN.
    keys.BOX_HEAD_CHANNELS = 256
    # Side of the anchors of each level, px of the network's input. (): as `models.py` says.
    keys.ANCHOR_SIZES = ()
    # Detections below this score are dropped, and of overlapping ones (IoU) all but the best.
    keys.SCORE_THRESHOLD = 0.02
    keys.NMS_THRESHOLD = 0.5
    # Detections of an image.
    keys.MAX_DETECTIONS = 100

    # "voc": Annotations/, ImageSets/Main/, JPEGImages/ in DATA.ROOT. "coco": annotations/ and one
    # folder of images for each split.
    keys.DATASET = "voc"
    # Names of the classes. (): all that the training annotations name, sorted by name.
    keys.CLASSES = ()
    # Names of the splits: a file of ImageSets/Main (voc) or a folder of images (coco: "train2017").
    keys.TRAIN_SPLIT = "train"
    keys.VAL_SPLIT = "val"
    return task_cfg("DETECTION", keys, input_size=320)


def check_config(cfg: CfgNode) -> None:
    """Raise ConfigError, which names the key, for the first value that cannot be used."""
    check_task(cfg, "DETECTION", "a detector")
    keys = cfg.DETECTION
    check_name("DETECTION.ARCH", keys.ARCH, ARCHS)
    check_name("DETECTION.DATASET", keys.DATASET, DATASETS)
    fits = keys.FPN_CHANNELS > 0 and keys.FPN_CHANNELS % 16 == 0
    check_value("DETECTION.FPN_CHANNELS", keys.FPN_CHANNELS, fits, "a multiple of 16")
    for key in ("SCORE_THRESHOLD", "NMS_THRESHOLD"):
        check_value(f"DETECTION.{key}", keys[key], 0 <= keys[key] <= 1, "0 to 1")
    for key in ("MAX_DETECTIONS", "BOX_HEAD_CHANNELS"):
        check_value(f"DETECTION.{key}", keys[key], keys[key] >= 1, "at least 1")
    if keys.TORCHVISION_BACKBONE:
        for name, default in get_detection_cfg().MODEL.items():
            value = cfg.MODEL[name]
            valid = f"{default!r} with DETECTION.TORCHVISION_BACKBONE, which replaces MODEL"
            check_value(f"MODEL.{name}", value, value == default, valid)


def config_from_args(args: argparse.Namespace) -> CfgNode:
    """Defaults, ``--config-file`` and KEY VALUE overrides, checked and frozen."""
    return checked_from_args(args, get_detection_cfg(), check_config)
