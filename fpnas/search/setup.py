"""What a search needs from its config and its data, before and after images are decoded."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fpnas.config import CfgNode
from fpnas.data import (
    ImageSet,
    TestLoader,
    TrainLoader,
    cache_images,
    check_several_classes,
    find_dataset,
    stratified_split,
)
from fpnas.engine import check_setup
from fpnas.modeling import SearchedNet, SuperNet, recalibrate_bn
from fpnas.report.units import short_target
from fpnas.search.budget import Budget, build_budgets, check_budgets
from fpnas.search.options import check_halves, check_search_config
from fpnas.search.estimator import AdaptiveSampling, FixedSampling, Sampling
from fpnas.spaces import NetworkSpace, build_space
from fpnas.training.accuracy import evaluate
from fpnas.utils import comm


@dataclass(frozen=True)
class SearchPlan:
    """What a search needs before its images are decoded; making it writes nothing."""

    cfg: CfgNode
    budgets: tuple[Budget, ...]
    sampling: Sampling
    images: ImageSet

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> SearchPlan:
        """Raises ConfigError, DataError or BudgetError on what cannot be searched."""
        check_search_config(cfg)
        check_budgets(cfg)
        space, sampling = build_space(cfg), _build_sampling(cfg)
        check_setup(cfg)
        images = find_dataset(cfg, "train")
        check_several_classes(images, cfg)
        space = space.at(num_classes=cfg.SEARCH.COST_NUM_CLASSES or len(images.classes))
        plan = cls(cfg, build_budgets(cfg, space), sampling, images)
        plan._with(images)  # whatever it refuses shall be said before images are decoded
        return plan

    @property
    def space(self) -> NetworkSpace:
        """What is searched; costs are counted as for the first budget."""
        return self.budgets[0].space

    @property
    def num_classes(self) -> int:
        """Of the data."""
        return len(self.images.classes)

    def decoded(self) -> SearchSetup:
        """With the images in memory, as far as DATA.CACHE says; may take minutes."""
        return self._with(cache_images(self.images, self.cfg))

    def _with(self, images: ImageSet) -> SearchSetup:
        cfg = self.cfg
        halves = stratified_split(images.labels, cfg.SEARCH.TRAIN_FRACTION, cfg.SEED)
        train_half, val_half = (images.subset(half) for half in halves)
        check_halves(cfg, len(train_half), len(val_half))
        ranks = (comm.get_rank(), comm.get_world_size())
        train_loader = TrainLoader(train_half, cfg, cfg.SOLVER.BATCH_SIZE, cfg.SEED, *ranks)
        return SearchSetup(
            cfg=cfg,
            budgets=self.budgets,
            num_classes=self.num_classes,
            sampling=self.sampling,
            train_loader=train_loader,
            val_loader=TrainLoader(
                val_half, cfg, cfg.SEARCH.VAL_BATCH_SIZE, cfg.SEED + 1, *ranks, augment=False
            ),
            val_images=TestLoader(val_half, cfg, cfg.TEST.BATCH_SIZE, *ranks),
            max_iter=cfg.SOLVER.EPOCHS * len(train_loader),
        )


@dataclass(frozen=True)
class SearchSetup:
    """What a search needs from its config and its data; making it writes nothing."""

    cfg: CfgNode
    budgets: tuple[Budget, ...]
    num_classes: int
    sampling: Sampling
    train_loader: TrainLoader
    val_loader: TrainLoader
    val_images: TestLoader
    max_iter: int

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> SearchSetup:
        """Raises ConfigError, DataError or BudgetError on what cannot be searched."""
        return SearchPlan.from_cfg(cfg).decoded()

    @property
    def space(self) -> NetworkSpace:
        """What is searched; costs are counted as for the first budget."""
        return self.budgets[0].space

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
        batches = itertools.islice(self.train_loader.iterate(), self.cfg.SEARCH.BN_BATCHES)
        recalibrate_bn(network, (images.to(device) for images, _ in batches))
        return network

    def folder(self, target: float) -> Path:
        """Where the result for ``target`` is written."""
        output_dir = Path(self.cfg.OUTPUT_DIR)
        return output_dir if len(self.budgets) == 1 else output_dir / f"target-{self.short(target)}"

    def short(self, target: float) -> str:
        """``target`` in names of files and architectures."""
        return short_target(self.cfg.SEARCH.COST, target)


def _build_sampling(cfg: CfgNode) -> Sampling:
    if cfg.SEARCH.SAMPLING == "fixed":
        return FixedSampling(cfg.SEARCH.NUM_SAMPLES)
    return AdaptiveSampling(cfg.SEARCH.LAMBDA)
