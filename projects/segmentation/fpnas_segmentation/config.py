"""The config of a segmenter: fpnas' own tree with SEGMENTATION beside it, and other defaults."""

from __future__ import annotations

import argparse

from fpnas.config import CfgNode, find_config, get_cfg
from fpnas.config.backbone_tasks import check_unread
from fpnas.config.checks import check_value
from fpnas.config.flags import check_overrides
from fpnas.export.rewrites import expand_rewrites
from fpnas.solver import check_solver_config


def get_segmentation_cfg() -> CfgNode:
    """A copy of the default config, for ``merge_from_file`` and ``merge_from_list`` to change.

    The keys in :data:`fpnas.config.backbone_tasks.READ_KEYS` mean what they mean in fpnas:
    DATA.ROOT is the folder of the data, DATA.INPUT_SIZE the side of the square image that the
    network sees, MODEL is the backbone. The other keys of fpnas must keep their defaults.
    """
    cfg = get_cfg()
    cfg.MODEL.OUT_FEATURES = ("auto",)
    cfg.MODEL.OUTPUT_STRIDE = 16
    cfg.DATA.INPUT_SIZE = 256
    cfg.SOLVER.BATCH_SIZE = 8
    keys = cfg.SEGMENTATION = CfgNode()
    # Names of the classes, by the numbers that the pixels of the masks have: 0 for the first.
    keys.CLASSES = ()
    # Folders of DATA.ROOT, each with images/ and masks/.
    keys.TRAIN_SPLIT = "train"
    keys.VAL_SPLIT = "val"
    # Channels between the backbone's last map and the classes.
    keys.HEAD_CHANNELS = 128
    # Augmentation, beside DATA.AUGMENT.HFLIP: probability of an upside-down image,
    keys.VFLIP = 0.0
    # zoom, a factor on the size of the objects, uniform in this interval,
    keys.ZOOM = (0.7, 1.4)
    # probability of each change of brightness, contrast, saturation, hue and order of channels.
    keys.PHOTOMETRIC = 0.5
    cfg.set_new_allowed(False)
    return cfg


def check_config(cfg: CfgNode) -> None:
    """Raise ConfigError, which names the key, for the first value that cannot be used."""
    check_solver_config(cfg)
    keys, side = cfg.SEGMENTATION, cfg.DATA.INPUT_SIZE
    count = len(keys.CLASSES)
    fits = 2 <= count <= 255 and len(set(keys.CLASSES)) == count
    check_value("SEGMENTATION.CLASSES", keys.CLASSES, fits, "2 to 255 different names")
    check_value("DATA.INPUT_SIZE", side, side >= 32, "at least 32")
    width = keys.HEAD_CHANNELS
    check_value("SEGMENTATION.HEAD_CHANNELS", width, width >= 1, "at least 1")
    for key in ("VFLIP", "PHOTOMETRIC"):
        check_value(f"SEGMENTATION.{key}", keys[key], 0 <= keys[key] <= 1, "0 to 1")
    zoom_works = len(keys.ZOOM) == 2 and 0 < keys.ZOOM[0] <= keys.ZOOM[1]
    check_value("SEGMENTATION.ZOOM", keys.ZOOM, zoom_works, "(smallest, largest), both above 0")
    expand_rewrites(cfg.EXPORT.REWRITES)
    check_unread(cfg, "a segmenter")


def config_from_args(args: argparse.Namespace) -> CfgNode:
    """Defaults, ``--config-file`` and KEY VALUE overrides, checked and frozen."""
    check_overrides(args.opts)
    cfg = get_segmentation_cfg()
    if args.config_file:
        cfg.merge_from_file(find_config(args.config_file))
    cfg.merge_from_list(args.opts)
    check_config(cfg)
    cfg.freeze()
    return cfg
