"""The config of a segmenter: fpnas' own tree with SEGMENTATION beside it, and other defaults."""

from __future__ import annotations

import argparse

from fpnas.config import CfgNode
from fpnas.config.checks import check_value
from fpnas_tasks.config import check_task, checked_from_args, task_cfg


def get_segmentation_cfg() -> CfgNode:
    """A copy of the default config, for ``merge_from_file`` and ``merge_from_list`` to change.

    See :func:`fpnas_tasks.config.task_cfg` for the keys of fpnas.
    """
    keys = CfgNode()
    # Names of the classes, by the numbers that the pixels of the masks have: 0 for the first.
    keys.CLASSES = ()
    # Folders of DATA.ROOT, each with images/ and masks/.
    keys.TRAIN_SPLIT = "train"
    keys.VAL_SPLIT = "val"
    # Channels between the backbone's last map and the classes.
    keys.HEAD_CHANNELS = 128
    cfg = task_cfg("SEGMENTATION", keys, input_size=256)
    cfg.MODEL.OUTPUT_STRIDE = 16
    return cfg


def check_config(cfg: CfgNode) -> None:
    """Raise ConfigError, which names the key, for the first value that cannot be used."""
    check_task(cfg, "SEGMENTATION", "a segmenter")
    keys = cfg.SEGMENTATION
    count = len(keys.CLASSES)
    fits = 2 <= count <= 255 and len(set(keys.CLASSES)) == count
    check_value("SEGMENTATION.CLASSES", keys.CLASSES, fits, "2 to 255 different names")
    width = keys.HEAD_CHANNELS
    check_value("SEGMENTATION.HEAD_CHANNELS", width, width >= 1, "at least 1")


def config_from_args(args: argparse.Namespace) -> CfgNode:
    """Defaults, ``--config-file`` and KEY VALUE overrides, checked and frozen."""
    return checked_from_args(args, get_segmentation_cfg(), check_config)
