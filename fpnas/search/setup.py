"""From a config to what a search needs: checked values, budgets, two halves of the images."""

from __future__ import annotations

import itertools
import logging
import math
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fpnas.config import CfgNode
from fpnas.config.checks import check_name, check_unused, check_value
from fpnas.data import (
    ImageSet,
    Preprocessing,
    TestLoader,
    TrainLoader,
    cache_images,
    check_several_classes,
    find_dataset,
    preprocessing,
    stratified_split,
)
from fpnas.engine import check_setup
from fpnas.errors import DataError
from fpnas.modeling import SHARING, SearchedNet, SuperNet, recalibrate_bn
from fpnas.search.budget import COSTS, Budget, build_budgets, short_target, targets_of
from fpnas.search.distribution import FIRST_DISTRIBUTION
from fpnas.search.estimator import SAMPLING
from fpnas.search.estimators import AdditiveEstimator, get_estimator
from fpnas.search.pretrained import check_origin, search_space, starts_from_network
from fpnas.search.result import PRETRAINED_WAY
from fpnas.solver import check_solver_config
from fpnas.spaces import NetworkSpace, SearchSpace
from fpnas.training.accuracy import evaluate
from fpnas.utils import comm

logger = logging.getLogger(__name__)

# What trains a single network: other values would do nothing in a search.
_UNUSED = (
    *("SOLVER.BODY_LR", "SOLVER.LABEL_SMOOTHING", "SOLVER.EMA_DECAY", "SOLVER.COMPILE"),
    *("SOLVER.DISTILL.ARCH", "SOLVER.DISTILL.WEIGHTS"),
)
# What the small networks of a search learn from the whole one.
_OF_PRETRAINED = (*("SEARCH.FULL_EPOCHS", "SOLVER.DISTILL.WEIGHT", "SOLVER.DISTILL.TEMPERATURE"),)


# A class: with fewer, what a pretrained network knows outweighs what a search from scratch learns.
_ENOUGH_IMAGES = 500


def check_search_config(cfg: CfgNode) -> None:
    """Raise ConfigError, which names the key, for the first value that a search cannot use."""
    check_name("SEARCH.COST", cfg.SEARCH.COST, COSTS)
    check_name("SEARCH.DISTRIBUTION", cfg.SEARCH.DISTRIBUTION, FIRST_DISTRIBUTION)
    check_name("SEARCH.SAMPLING", cfg.SEARCH.SAMPLING, SAMPLING)
    check_name("SEARCH.FINALIST_WEIGHTS", cfg.SEARCH.FINALIST_WEIGHTS, ("supernet", "fresh"))
    check_name("SEARCH.SHARING", cfg.SEARCH.SHARING, SHARING)
    if not isinstance(get_estimator(cfg.SEARCH.ESTIMATOR), AdditiveEstimator):
        check_unused(cfg, ["SEARCH.FORGETTING"], f"SEARCH.ESTIMATOR {cfg.SEARCH.ESTIMATOR!r}")
    SAMPLING[cfg.SEARCH.SAMPLING](cfg.SEARCH)
    check_solver_config(cfg)
    check_name("SOLVER.OPTIMIZER in a search", cfg.SOLVER.OPTIMIZER, ("sgd",))
    check_unused(cfg, _UNUSED, "a search")
    search, epochs = cfg.SEARCH, cfg.SOLVER.EPOCHS
    learns = search.RATING_SHARE < 1 or search.WARMUP_EPOCHS > 0 or bool(cfg.MODEL.WEIGHTS)
    for key, is_valid, valid in (
        ("WARMUP_EPOCHS", 0 <= search.WARMUP_EPOCHS < epochs, "at least 0, below SOLVER.EPOCHS"),
        ("WARMUP_SAMPLES", search.WARMUP_SAMPLES >= 0, "at least 0"),
        ("RATING_SHARE", 0 <= search.RATING_SHARE <= 1, "0 to 1"),
        ("RATING_SHARE", learns, "below 1 without SEARCH.WARMUP_EPOCHS and MODEL.WEIGHTS"),
        ("JOINT_EPOCH", search.JOINT_EPOCH >= 0, "at least 0"),
        ("TRAIN_FRACTION", 0 < search.TRAIN_FRACTION < 1, "between 0 and 1"),
        ("FLOOR", 0 <= search.FLOOR < 1, "at least 0, below 1"),
        ("FORGETTING", 0 < search.FORGETTING <= 1, "above 0, at most 1"),
        ("BETA", search.BETA >= 0, "at least 0"),
        ("LIKELIHOOD_SCALE", search.LIKELIHOOD_SCALE > 0, "above 0"),
        ("CLASSIFIER_LR", search.CLASSIFIER_LR > 0, "above 0"),
        ("ALPHA_LR", search.ALPHA_LR > 0, "above 0"),
        ("TEMPERATURE_START", search.TEMPERATURE_START > 0, "above 0"),
        ("TEMPERATURE_END", search.TEMPERATURE_END > 0, "above 0"),
        ("FINALISTS", search.FINALISTS == 0 or search.FINALISTS >= 2, "0, or at least 2"),
        ("FINALIST_EPOCHS", search.FINALIST_EPOCHS >= 1, "at least 1"),
        ("FULL_EPOCHS", search.FULL_EPOCHS >= 0, "at least 0"),
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


def warn_of_few_images(cfg: CfgNode, images: ImageSet, space: NetworkSpace) -> None:
    """Name the pretrained way where a search from scratch cannot compete with it."""
    each = len(images) / len(images.classes)
    if each < _ENOUGH_IMAGES and not cfg.MODEL.WEIGHTS and space.origin is None:
        logger.warning("The data set has %d images a class. %s", each, PRETRAINED_WAY)


def warn_of_few_steps(cfg: CfgNode, space: SearchSpace, steps: int) -> None:
    """Warn if so many steps after the warm-up cannot make the distribution prefer anything.

    A step moves a logit by about SEARCH.ALPHA_LR at most (Adam). After n steps that all agree, the
    most probable of m values thus has the odds exp(2 n ALPHA_LR) : (m - 1). "additive" has no such
    limit, but cannot tell more values apart than it has ratings.
    """
    estimator = get_estimator(cfg.SEARCH.ESTIMATOR)
    if isinstance(estimator, AdditiveEstimator):
        needed = math.ceil(sum(space.cardinalities) / estimator.min_samples)
        if steps < needed:
            logger.warning(
                "This search is too short to find anything: %d steps after the warm-up, fewer than "
                "the %d that it takes to rate each of %d values once. Raise SOLVER.EPOCHS, lower "
                "SOLVER.BATCH_SIZE, or add images. %s",
                *(steps, needed, sum(space.cardinalities), PRETRAINED_WAY),
            )
        return
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


@dataclass(frozen=True)
class SearchSetup:
    """What a search needs beside its trainer's options; making it writes nothing."""

    budgets: tuple[Budget, ...]  # one for each target
    cost: str  # what they count, as in SEARCH.COST
    images: ImageSet  # all of them
    train_loader: TrainLoader  # batches that update omega
    val_loader: TrainLoader  # batches that rate samples
    val_images: TestLoader  # the images of val_loader, each once, to evaluate on
    preprocessing: Preprocessing  # of the images that a found network is fed with
    bn_batches: int  # that measure BatchNorm statistics before an architecture is evaluated
    max_iter: int  # steps of the search
    output_dir: Path  # of everything that is written

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> SearchSetup:
        """Raises ConfigError, DataError or BudgetError on what cannot be searched."""
        return cls.planned(cfg).decoded(cfg)

    @classmethod
    def planned(cls, cfg: CfgNode) -> SearchSetup:
        """The same before any image is decoded; raises all that there is to refuse."""
        space = search_space(cfg)
        check_search_config(cfg)
        targets_of(cfg)  # wrong ones are refused before any data are looked for
        if starts_from_network(cfg, space):
            check_origin(cfg, space)
        else:
            check_unused(cfg, _OF_PRETRAINED, "a search that starts from no trained network")
        check_setup(cfg)
        images = find_dataset(cfg, "train")
        check_several_classes(images, cfg)
        space = space.at(num_classes=cfg.SEARCH.COST_NUM_CLASSES or len(images.classes))
        return cls._on(cfg, build_budgets(cfg, space), images)

    def decoded(self, cfg: CfgNode) -> SearchSetup:
        """With the images in memory, as far as DATA.CACHE says; may take minutes."""
        return self._on(cfg, self.budgets, cache_images(self.images, cfg))

    @classmethod
    def _on(cls, cfg: CfgNode, budgets: tuple[Budget, ...], images: ImageSet) -> SearchSetup:
        halves = stratified_split(images.labels, cfg.SEARCH.TRAIN_FRACTION, cfg.SEED)
        train_half, val_half = (images.subset(half) for half in halves)
        check_halves(cfg, len(train_half), len(val_half))
        ranks = (comm.get_rank(), comm.get_world_size())
        train_loader = TrainLoader(train_half, cfg, cfg.SOLVER.BATCH_SIZE, cfg.SEED, *ranks)
        return cls(
            budgets=budgets,
            cost=cfg.SEARCH.COST,
            images=images,
            train_loader=train_loader,
            val_loader=TrainLoader(
                val_half, cfg, cfg.SEARCH.VAL_BATCH_SIZE, cfg.SEED + 1, *ranks, augment=False
            ),
            val_images=TestLoader(val_half, cfg, cfg.TEST.BATCH_SIZE, *ranks),
            preprocessing=preprocessing(cfg),
            bn_batches=cfg.SEARCH.BN_BATCHES,
            max_iter=cfg.SOLVER.EPOCHS * len(train_loader),
            output_dir=Path(cfg.OUTPUT_DIR),
        )

    @property
    def space(self) -> NetworkSpace:
        """What is searched; costs are counted as for the first budget."""
        return self.budgets[0].space

    @property
    def num_classes(self) -> int:
        """Of the data."""
        return len(self.images.classes)

    def iterations(self, epochs: float) -> int:
        """Steps in so many epochs."""
        return round(epochs * len(self.train_loader))

    def score(self, supernet: SuperNet, choices: Tensor) -> dict[str, float]:
        """Accuracy on the whole validation half, with the supernet's weights."""
        network = self.network(supernet, choices)
        scores = evaluate(network, self.val_images, next(network.parameters()).device)
        return {f"mode_{name}": value for name, value in scores.items()}

    def network(self, supernet: SuperNet, choices: Tensor) -> SearchedNet:
        """With the supernet's weights, and BatchNorm statistics of its own."""
        network = supernet.extract(choices)
        device = next(network.parameters()).device
        batches = itertools.islice(self.train_loader.iterate(), self.bn_batches)
        recalibrate_bn(network, (images.to(device) for images, _ in batches))
        return network

    def folder(self, target: float) -> Path:
        """Where the result for ``target`` is written."""
        if len(self.budgets) == 1:
            return self.output_dir
        return self.output_dir / f"target-{self.short(target)}"

    def short(self, target: float) -> str:
        """``target`` in names of files and architectures."""
        return short_target(self.cost, target)
