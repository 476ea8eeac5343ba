"""Flags and the setting-up of a run."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import pytest
import torch

from fpnas.config import get_cfg
from fpnas.engine import BestCheckpointHook, build_hooks, check_setup, default_setup
from fpnas.errors import ConfigError
from fpnas.utils.checkpoint import Checkpointer


@pytest.fixture(autouse=True)
def restore_logging():
    """The handlers of a set-up run would outlive the test's folder."""
    loggers = [logging.getLogger(name) for name in ("fpnas", "fvcore", "iopath")]
    before = [(logger, list(logger.handlers), logger.level) for logger in loggers]
    yield
    for logger, handlers, level in before:
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.handlers[:] = handlers
        logger.setLevel(level)


def config(folder: Path):
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(folder)
    return cfg


def test_setup_writes_config_and_log_and_seeds(tmp_path, capsys):
    cfg = config(tmp_path / "new" / "out")
    cfg.SEED = 3
    default_setup(cfg, argparse.Namespace(config_file="x.yaml"))
    first = torch.rand(3)
    default_setup(cfg, argparse.Namespace())
    assert torch.equal(first, torch.rand(3))

    reloaded = get_cfg()
    reloaded.merge_from_file(tmp_path / "new" / "out" / "config.yaml")
    assert reloaded == cfg
    log = (tmp_path / "new" / "out" / "log.txt").read_text()
    assert f"torch           {torch.__version__.split('+')[0]}" in log
    assert "config_file='x.yaml'" in log
    logging.getLogger("fpnas.some.module").warning("said once")
    text = (tmp_path / "new" / "out" / "log.txt").read_text()
    assert text.count("WARNING: said once") == 1
    assert capsys.readouterr().err.count("said once") == 1


def test_unusable_output_dir_and_seed(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match=r"OUTPUT_DIR '.*file.*' cannot be written to"):
            default_setup(config(folder), argparse.Namespace())
        with pytest.raises(ConfigError, match=r"OUTPUT_DIR '.*' cannot be .*file is no folder"):
            check_setup(config(folder))
    cfg = config(tmp_path / "out")
    cfg.SEED = -1
    with pytest.raises(ConfigError, match=r"SEED must be in \[0, 2\^32\), found -1"):
        default_setup(cfg, argparse.Namespace())
    with pytest.raises(ConfigError, match="SEED"):
        check_setup(cfg)
    check_setup(config(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_hooks_of_all_kinds_of_runs_in_their_order(tmp_path):
    """Checkpoints name the states of hooks by their classes."""
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    checkpointer = Checkpointer(model, tmp_path)
    best = BestCheckpointHook(checkpointer, "test_top1")

    def names(**parts: object) -> list[str]:
        hooks = build_hooks(config(tmp_path), optimizer, checkpointer, 4, 12, **parts)
        return [type(hook).__name__.removesuffix("Hook") for hook in hooks]

    start, end = ["IterationTimer", "LRScheduler"], ["Checkpoint", "Interrupt"]
    writers = ["PeriodicWriter", "PeriodicWriter"]
    training = names(evaluate=dict, best=best)
    assert training == [*start, "Eval", "BestCheckpoint", *writers, *end]
    assert names(evaluate=dict, every_step=True) == [*start, "Eval", *writers, *end]
    assert names(shown=None) == [*start, "PeriodicWriter", *end]
