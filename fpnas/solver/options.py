"""Check of the values under cfg.SOLVER before any work is done."""

from __future__ import annotations

from fpnas.config import CfgNode
from fpnas.config.checks import check_name, check_value

OPTIMIZERS = ("sgd", "rmsprop", "adamw")
SCHEDULES = ("cosine", "exponential", "onecycle", "constant")


def check_solver_config(cfg: CfgNode) -> None:
    """Raise ConfigError, which names the key, for the first value under cfg.SOLVER of no use."""
    s = cfg.SOLVER
    check_name("SOLVER.OPTIMIZER", s.OPTIMIZER, OPTIMIZERS)
    check_name("SOLVER.SCHEDULE", s.SCHEDULE, SCHEDULES)
    _check("EPOCHS", s.EPOCHS, s.EPOCHS >= 1, "at least 1")
    _check("BATCH_SIZE", s.BATCH_SIZE, s.BATCH_SIZE >= 1, "at least 1")
    _check("LR", s.LR, s.LR > 0, "above 0")
    _check("BODY_LR", s.BODY_LR, 0 <= s.BODY_LR <= 1, "0 to 1, a share of LR")
    _check("MOMENTUM", s.MOMENTUM, 0 <= s.MOMENTUM < 1, "0 or more, below 1")
    nesterov_works = s.OPTIMIZER == "sgd" and s.MOMENTUM > 0
    _check("NESTEROV", s.NESTEROV, nesterov_works or not s.NESTEROV, "False without SGD's momentum")
    _check("WEIGHT_DECAY", s.WEIGHT_DECAY, s.WEIGHT_DECAY >= 0, "at least 0")
    _check("WEIGHT_DECAY_NORM", s.WEIGHT_DECAY_NORM, s.WEIGHT_DECAY_NORM >= 0, "at least 0")
    _check("LR_END", s.LR_END, 0 <= s.LR_END <= 1, "0 to 1, a share of LR")
    _check("LR_DECAY", s.LR_DECAY, 0 < s.LR_DECAY <= 1, "above 0, at most 1")
    is_within_run = 0 <= s.LR_WARMUP_EPOCHS < s.EPOCHS
    epochs_allowed = f"0 or more, below SOLVER.EPOCHS ({s.EPOCHS})"
    _check("LR_WARMUP_EPOCHS", s.LR_WARMUP_EPOCHS, is_within_run, epochs_allowed)
    no_second_warmup = s.SCHEDULE != "onecycle" or not s.LR_WARMUP_EPOCHS
    _check("LR_WARMUP_EPOCHS", s.LR_WARMUP_EPOCHS, no_second_warmup, "0 with 'onecycle'")
    _check("LR_WARMUP_FACTOR", s.LR_WARMUP_FACTOR, 0 <= s.LR_WARMUP_FACTOR <= 1, "0 to 1")
    _check("LABEL_SMOOTHING", s.LABEL_SMOOTHING, 0 <= s.LABEL_SMOOTHING < 1, "0 or more, below 1")
    _check("EMA_DECAY", s.EMA_DECAY, 0 <= s.EMA_DECAY < 1, "0 or more, below 1")
    _check("CLIP_GRAD_NORM", s.CLIP_GRAD_NORM, s.CLIP_GRAD_NORM >= 0, "at least 0")
    d = s.DISTILL
    _check("DISTILL.WEIGHT", d.WEIGHT, 0 <= d.WEIGHT <= 1, "0 to 1")
    _check("DISTILL.TEMPERATURE", d.TEMPERATURE, d.TEMPERATURE > 0, "above 0")


def _check(key: str, value: object, is_valid: bool, valid: str) -> None:
    check_value(f"SOLVER.{key}", value, is_valid, valid)
