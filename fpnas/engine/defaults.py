"""What every run does first: checks of its folder and seed, logging, seeds, config.yaml."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from fpnas.config import CfgNode
from fpnas.engine.hooks import check_hooks_config
from fpnas.errors import ConfigError
from fpnas.utils import comm
from fpnas.utils.env import environment_info
from fpnas.utils.file_io import atomic_write
from fpnas.utils.logger import setup_logger
from fpnas.utils.rng import seed_all_rng

if TYPE_CHECKING:
    from fpnas.engine.run_folder import Run

logger = logging.getLogger(__name__)


def check_setup(cfg: CfgNode) -> None:
    """Raise ConfigError if SEED or a period is out of range or OUTPUT_DIR seen not to be writable.

    Makes nothing. For runs whose preparation takes long; :func:`default_setup` calls it, too.
    """
    if not 0 <= cfg.SEED < 2**32:
        raise ConfigError(f"SEED must be in [0, 2^32), found {cfg.SEED}.")
    check_hooks_config(cfg)
    folder = Path(cfg.OUTPUT_DIR).absolute()
    nearest = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    if not nearest.is_dir():
        raise unwritable(cfg, f"{nearest} is no folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise unwritable(cfg, f"no permission to write into {nearest}")


def unwritable(cfg: CfgNode, reason: str | None) -> ConfigError:
    """The error that OUTPUT_DIR cannot be written to, for a ``reason``."""
    return ConfigError(
        f"OUTPUT_DIR '{Path(cfg.OUTPUT_DIR)}' cannot be written to ({reason}); choose another."
    )


def default_setup(cfg: CfgNode, args: argparse.Namespace, run: Run | None = None) -> None:
    """Prepare a run: output folder, logging, random seeds, config.yaml. Call it in every process.

    All processes get the same seed, hence the same initial weights. ``args`` may come from any
    parser; the log shows them. ``run``, of :func:`begin_run`, is settled: call this when a resumed
    run has its state.

    Raises ConfigError if OUTPUT_DIR cannot be written to or SEED is out of range.
    """
    check_setup(cfg)
    output_dir = Path(cfg.OUTPUT_DIR)
    config_file = output_dir / "config.yaml"
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        setup_logger(output_dir)
        logger.info("Environment:\n%s", environment_info())
        logger.info("Flags: %s", _flags(args))
        if comm.is_main_process():
            with atomic_write(config_file) as file:
                file.write(cfg.dump().encode())
            logger.info("Config: %s", config_file)
        if run is not None:
            run.settle(output_dir)
            for note in run.notes:
                logger.warning(note)
    except OSError as error:
        raise unwritable(cfg, error.strerror) from None
    seed_all_rng(cfg.SEED)
    comm.synchronize()


def _flags(args: argparse.Namespace) -> str:
    shown = {name: value for name, value in vars(args).items() if not callable(value)}
    return ", ".join(f"{name}={value!r}" for name, value in shown.items())
