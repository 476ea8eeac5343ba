"""Which keys of fpnas a task on a backbone reads, such as detection; the others must not change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fpnas.config import CfgNode, get_cfg
from fpnas.config.checks import check_unused

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


def check_unread(cfg: CfgNode, user: str) -> None:
    """Raise ConfigError for the first key of ``get_cfg()`` that nobody reads and that was changed.

    Args:
        cfg: fpnas' tree, perhaps with sections of a task beside it.
        user: what does not read it, for the message: "a detector".
    """
    check_unused(cfg, (key for key, _ in leaves(get_cfg()) if key not in READ_KEYS), user)


def leaves(cfg: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key that holds a value, with its sections (``DATA.AUGMENT.HFLIP``), and that value."""
    for name, value in cfg.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
