"""What every run does first: checks of its folder and seed, logging, seeds, config.yaml."""

from __future__ import annotations

import argparse
import difflib
import logging
import os
from pathlib import Path

from fpnas.config import CfgNode
from fpnas.errors import ConfigError
from fpnas.utils import comm
from fpnas.utils.checkpoint import atomic_write
from fpnas.utils.env import environment_info, seed_all_rng
from fpnas.utils.logger import setup_logger

logger = logging.getLogger(__name__)

#: What searches and trainings write into OUTPUT_DIR beside checkpoints and the log, which goes on.
RUN_FILES = (
    *("config.yaml", "metrics.json", "tensorboard", "report.html", "architecture.yaml"),
    *("result.yaml", "network.pth", "search_result.pth", "search_result.yaml", "target-*"),
)


def check_setup(cfg: CfgNode) -> None:
    """Raise ConfigError if SEED is out of range or OUTPUT_DIR is seen not to be writable.

    Makes nothing. For runs whose preparation takes long; :func:`default_setup` calls it, too.
    """
    if not 0 <= cfg.SEED < 2**32:
        raise ConfigError(f"SEED must be in [0, 2^32), found {cfg.SEED}.")
    folder = Path(cfg.OUTPUT_DIR).absolute()
    nearest = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    if not nearest.is_dir():
        raise _unwritable(cfg, f"{nearest} is no folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise _unwritable(cfg, f"no permission to write into {nearest}")


def _unwritable(cfg: CfgNode, reason: str | None) -> ConfigError:
    return ConfigError(
        f"OUTPUT_DIR '{Path(cfg.OUTPUT_DIR)}' cannot be written to ({reason}); choose another."
    )


def default_setup(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Prepare a run: output folder, logging, random seeds, config.yaml. Call it in every process.

    All processes get the same seed, hence the same initial weights. ``args`` may come from any
    parser; ``args.resume`` counts as False where it is missing.

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
            _save_config(cfg.dump(), config_file, resumed=getattr(args, "resume", False))
            logger.info("Config: %s", config_file)
    except OSError as error:
        raise _unwritable(cfg, error.strerror) from None
    seed_all_rng(cfg.SEED)
    comm.synchronize()


def _flags(args: argparse.Namespace) -> str:
    shown = {name: value for name, value in vars(args).items() if not callable(value)}
    return ", ".join(f"{name}={value!r}" for name, value in shown.items())


def _save_config(text: str, path: Path, resumed: bool) -> None:
    """Write ``text``. A resumed run with another config is allowed, but not in silence."""
    if resumed and path.exists():
        lines = difflib.unified_diff(
            path.read_text(encoding="utf-8").splitlines(), text.splitlines(), lineterm="", n=0
        )
        changes = [line for line in lines if line[0] in "+-" and line[:3] not in ("+++", "---")]
        if changes:
            logger.warning("Resuming with a changed config:\n%s", "\n".join(changes))
    with atomic_write(path) as file:
        file.write(text.encode())
