"""Checks of the values under cfg.SEARCH, and of SOLVER for a search, before any work is done."""

from __future__ import annotations

import logging
import math

from fpnas.config import CfgNode
from fpnas.config.checks import check_name, check_unused, check_value
from fpnas.errors import DataError
from fpnas.modeling import SHARING
from fpnas.search.budget import COSTS
from fpnas.search.estimator import get_estimator
from fpnas.search.result import PRETRAINED_WAY
from fpnas.solver import check_solver_config
from fpnas.spaces import SearchSpace

logger = logging.getLogger(__name__)

METHODS = ("probabilistic", "differentiable")
# SEARCH.DISTRIBUTION -> the distribution of the first steps
FIRST_DISTRIBUTION = {"joint": "joint", "factorized": "factorized", "mixed": "factorized"}
SAMPLING = ("adaptive", "fixed")
# What trains a single network: other values would do nothing in a search.
_UNUSED = (
    *("SOLVER.BODY_LR", "SOLVER.LABEL_SMOOTHING", "SOLVER.EMA_DECAY", "SOLVER.COMPILE"),
    *("SOLVER.DISTILL.ARCH", "SOLVER.DISTILL.WEIGHTS"),
    *("SOLVER.DISTILL.WEIGHT", "SOLVER.DISTILL.TEMPERATURE"),
)


def check_search_config(cfg: CfgNode) -> None:
    """Raise ConfigError, which names the key, for the first value that a search cannot use."""
    check_name("SEARCH.METHOD", cfg.SEARCH.METHOD, METHODS)
    check_name("SEARCH.COST", cfg.SEARCH.COST, COSTS)
    check_name("SEARCH.DISTRIBUTION", cfg.SEARCH.DISTRIBUTION, FIRST_DISTRIBUTION)
    check_name("SEARCH.SAMPLING", cfg.SEARCH.SAMPLING, SAMPLING)
    check_name("SEARCH.SHARING", cfg.SEARCH.SHARING, SHARING)
    get_estimator(cfg.SEARCH.ESTIMATOR)
    check_solver_config(cfg)
    check_name("SOLVER.OPTIMIZER in a search", cfg.SOLVER.OPTIMIZER, ("sgd",))
    check_unused(cfg, _UNUSED, "a search")
    search = cfg.SEARCH
    for key, is_valid, valid in (
        (
            "WARMUP_EPOCHS",
            0 <= search.WARMUP_EPOCHS < cfg.SOLVER.EPOCHS,
            "at least 0, below SOLVER.EPOCHS",
        ),
        ("WARMUP_SAMPLES", search.WARMUP_SAMPLES >= 0, "at least 0"),
        ("JOINT_EPOCH", search.JOINT_EPOCH >= 0, "at least 0"),
        ("TRAIN_FRACTION", 0 < search.TRAIN_FRACTION < 1, "between 0 and 1"),
        ("FLOOR", 0 <= search.FLOOR < 1, "at least 0, below 1"),
        ("BETA", search.BETA >= 0, "at least 0"),
        ("LIKELIHOOD_SCALE", search.LIKELIHOOD_SCALE > 0, "above 0"),
        ("CLASSIFIER_LR", search.CLASSIFIER_LR > 0, "above 0"),
        ("ALPHA_LR", search.ALPHA_LR > 0, "above 0"),
        ("TEMPERATURE_START", search.TEMPERATURE_START > 0, "above 0"),
        ("TEMPERATURE_END", search.TEMPERATURE_END > 0, "above 0"),
        ("BN_BATCHES", search.BN_BATCHES >= 1, "at least 1"),
        ("TOP_M", search.TOP_M >= 1, "at least 1"),
    ):
        check_value(f"SEARCH.{key}", search[key], is_valid, valid)


def check_halves(cfg: CfgNode, num_train: int, num_val: int) -> None:
    """Raise DataError if a half of the images, so many in each, does not make a batch."""
    search = cfg.SEARCH
    for half, count, key, batch_size in (
        ("training", num_train, "SOLVER.BATCH_SIZE", cfg.SOLVER.BATCH_SIZE),
        ("validation", num_val, "SEARCH.VAL_BATCH_SIZE", search.VAL_BATCH_SIZE),
    ):
        if count < batch_size:
            raise DataError(
                f"{count} of the {num_train + num_val} images are the search's {half} half "
                f"(SEARCH.TRAIN_FRACTION {search.TRAIN_FRACTION:g}), too few for a batch of "
                f"{batch_size}. Add images or lower {key}."
            )


def warn_of_late_joint_epoch(cfg: CfgNode) -> None:
    """Warn if the distribution is to become joint after the end of the search."""
    search, epochs = cfg.SEARCH, cfg.SOLVER.EPOCHS
    turns_joint = search.METHOD == "probabilistic" and search.DISTRIBUTION == "mixed"
    if turns_joint and search.JOINT_EPOCH >= epochs:
        logger.warning(
            "SEARCH.JOINT_EPOCH is %g, but the search has %d epochs (SOLVER.EPOCHS): its "
            "distribution stays factorised, as with SEARCH.DISTRIBUTION 'factorized'",
            *(search.JOINT_EPOCH, epochs),
        )


def warn_of_few_steps(cfg: CfgNode, space: SearchSpace, steps: int) -> None:
    """Warn if so many steps after the warm-up cannot make the distribution prefer anything.

    A step moves a logit by about SEARCH.ALPHA_LR at most (Adam). After n steps that all agree, the
    most probable of m values thus has the odds exp(2 n ALPHA_LR) : (m - 1).
    """
    reach = 2 * cfg.SEARCH.ALPHA_LR * (steps // (len(cfg.SEARCH.TARGETS) or 1))
    values = max(space.cardinalities)
    odds = math.exp(min(reach, 100)) / max(values - 1, 1)
    if odds < 1:
        logger.warning(
            "This search is too short to find anything: %d steps after the warm-up move the "
            "probability of one of %d values from %.3f to %.3f at most, even if all of them agree. "
            "Raise SOLVER.EPOCHS, lower SOLVER.BATCH_SIZE, or add images. %s",
            *(steps, values, 1 / values, odds / (1 + odds), PRETRAINED_WAY),
        )
