"""The config of a task on a backbone: fpnas' own tree with a section of the task beside it."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from fpnas.cli.flags import config_from_args
from fpnas.config import CfgNode, get_cfg
from fpnas.config.checks import check_unused, check_value, leaves
from fpnas.export.rewrites import expand_rewrites
from fpnas.solver import check_solver_config

# A key that a task begins to read comes in here; any other value of a key that is not here would do
# nothing.
READ_KEYS = frozenset(
    {
        "VERSION",
        "OUTPUT_DIR",
        "SEED",
        "MODEL.ARCH",
        "MODEL.WEIGHTS",
        "MODEL.DROP_PATH",
        "MODEL.NORM",
        "MODEL.FREEZE_STAGES",
        "MODEL.OUT_FEATURES",
        "MODEL.OUTPUT_STRIDE",
        "DATA.ROOT",
        "DATA.INPUT_SIZE",
        "DATA.MEAN",
        "DATA.STD",
        "DATA.NUM_WORKERS",
        "DATA.AUGMENT.HFLIP",
        "SOLVER.EPOCHS",
        "SOLVER.BATCH_SIZE",
        "SOLVER.OPTIMIZER",
        "SOLVER.LR",
        "SOLVER.MOMENTUM",
        "SOLVER.NESTEROV",
        "SOLVER.WEIGHT_DECAY",
        "SOLVER.WEIGHT_DECAY_NORM",
        "SOLVER.SCHEDULE",
        "SOLVER.LR_END",
        "SOLVER.LR_DECAY",
        "SOLVER.LR_WARMUP_EPOCHS",
        "SOLVER.LR_WARMUP_FACTOR",
        "SOLVER.EMA_DECAY",
        "SOLVER.CLIP_GRAD_NORM",
        "SOLVER.CHANNELS_LAST",
        "TEST.PERIOD",
        "CHECKPOINT.PERIOD",
        "CHECKPOINT.KEEP",
        "LOG.PERIOD",
        "LOG.TENSORBOARD",
        "EXPORT.REWRITES",
    }
)


def task_cfg(section: str, keys: CfgNode, input_size: int) -> CfgNode:
    """fpnas' tree with backbones, batches of 8 and a ``section`` of ``keys``, to change and close.

    The keys in :data:`READ_KEYS` mean what they mean in fpnas: DATA.ROOT is the folder of the data,
    DATA.INPUT_SIZE the side of the square image that the network sees, MODEL is the backbone. The
    other keys of fpnas must keep their defaults.
    """
    cfg = get_cfg()
    cfg.MODEL.OUT_FEATURES = ("auto",)
    cfg.DATA.INPUT_SIZE = input_size
    cfg.SOLVER.BATCH_SIZE = 8
    # Augmentation, beside DATA.AUGMENT.HFLIP: probability of an upside-down image,
    keys.VFLIP = 0.0
    # zoom, a factor on the size of the objects, uniform in this interval,
    keys.ZOOM = (0.7, 1.4)
    # probability of each change of brightness, contrast, saturation, hue and order of channels.
    keys.PHOTOMETRIC = 0.5
    cfg[section] = keys
    cfg.set_new_allowed(False)
    return cfg


def check_task(cfg: CfgNode, section: str, user: str) -> None:
    """Raise ConfigError, which names the key, for values that no task can use, or none reads.

    ``user``: whose config it is, for the message: "a detector".
    """
    check_solver_config(cfg)
    keys, side = cfg[section], cfg.DATA.INPUT_SIZE
    check_value("DATA.INPUT_SIZE", side, side >= 32, "at least 32")
    for key in ("VFLIP", "PHOTOMETRIC"):
        check_value(f"{section}.{key}", keys[key], 0 <= keys[key] <= 1, "0 to 1")
    zoom_works = len(keys.ZOOM) == 2 and 0 < keys.ZOOM[0] <= keys.ZOOM[1]
    check_value(f"{section}.ZOOM", keys.ZOOM, zoom_works, "(smallest, largest), both above 0")
    expand_rewrites(cfg.EXPORT.REWRITES)
    check_unread(cfg, user)


def check_unread(cfg: CfgNode, user: str) -> None:
    """Raise ConfigError for the first key of ``get_cfg()`` that nobody reads and that was changed.

    Args:
        cfg: fpnas' tree, perhaps with sections of a task beside it.
        user: what does not read it, for the message: "a detector".
    """
    check_unused(cfg, (key for key, _ in leaves(get_cfg()) if key not in READ_KEYS), user)


def checked_from_args(
    args: argparse.Namespace, cfg: CfgNode, check: Callable[[CfgNode], None]
) -> CfgNode:
    """``cfg``, ``--config-file`` and KEY VALUE overrides, checked and frozen."""
    cfg = config_from_args(args, start=cfg)
    check(cfg)
    return cfg
