"""The search methods by name, and the paper's own: SearchTrainer (sections 3.1 to 3.4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fpnas.config import CfgNode
from fpnas.config.checks import check_name, check_unused
from fpnas.data.streaming import BatchSource
from fpnas.engine import check_finite
from fpnas.modeling import SearchedNet, SuperNet
from fpnas.search.differentiable import DifferentiableTrainer
from fpnas.search.distribution import FIRST_DISTRIBUTION
from fpnas.search.estimator import SAMPLING
from fpnas.search.estimators import AdditiveEstimator, get_estimator
from fpnas.search.searcher import ArchitectureSearcher
from fpnas.search.setup import SearchSetup
from fpnas.search.supernet_trainer import Batch, SupernetTrainer
from fpnas.solver.loss import distillation_loss
from fpnas.solver.shared_sgd import SharedSGD
from fpnas.utils import comm


class Sample(NamedTuple):
    """The architectures of a step, and their networks on the supernet's weights."""

    choices: Tensor  # int64 [K, V]
    networks: Sequence[SearchedNet]


class SearchTrainer(SupernetTrainer):
    """Learns the supernet's weights omega and the distribution's alpha together.

    A step draws K architectures. Each of them takes the same training batch forward and backward;
    omega follows the mean of their gradients. Then each of them rates the same validation batch,
    and alpha follows the likelihoods. In the warm-up omega alone is learned. After it, a share
    ``rating_share`` of the steps is of alpha alone: K architectures are drawn and rated, without a
    gradient and without a training batch, at a third of the price of such a sample or less.

    BatchNorm normalises with the statistics of the batch at hand in both passes, so that no
    architecture is rated with the statistics of others.

    With several processes, all draw the same architectures; gradients and likelihoods are averaged
    over the processes once a step.

    Args:
        supernet, optimizer, searchers, train_loader, val_loader, warmup_iterations, rating_share,
            clip_grad_norm, channels_last, amp: as in :class:`SupernetTrainer`.
        warmup_samples: architectures of each step of the warm-up; None: as the sampling rule says.
        joint_iteration: step before which factorised distributions turn joint; None: never.
        likelihood_scale: the log-likelihood of a validation batch is this times its mean per image.
        teacher: a trained network that the sampled ones learn from, beside the labels; None: there
            is none.
        distill_weight, temperature: share of that loss, and what divides the logits in it.
    """

    supernet: SuperNet
    optimizer: SharedSGD

    def __init__(
        self,
        supernet: SuperNet,
        optimizer: SharedSGD,
        searchers: Sequence[ArchitectureSearcher],
        train_loader: BatchSource,
        val_loader: BatchSource,
        *,
        warmup_iterations: int,
        joint_iteration: int | None,
        likelihood_scale: float,
        warmup_samples: int | None = None,
        rating_share: float = 0.0,
        clip_grad_norm: float = 0.0,
        channels_last: bool = False,
        amp: bool = False,
        teacher: nn.Module | None = None,
        distill_weight: float = 0.5,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(
            supernet,
            optimizer,
            searchers,
            train_loader,
            val_loader,
            warmup_iterations=warmup_iterations,
            rating_share=rating_share,
            clip_grad_norm=clip_grad_norm,
            channels_last=channels_last,
            amp=amp,
        )
        self._joint_iteration = joint_iteration
        self._warmup_samples = warmup_samples
        self._likelihood_scale = likelihood_scale
        self._teacher = None if teacher is None else teacher.eval().requires_grad_(False)
        self._distill_weight = distill_weight
        self._temperature = temperature

    @classmethod
    def from_cfg(
        cls, cfg: CfgNode, setup: SearchSetup, supernet: SuperNet, teacher: nn.Module | None = None
    ) -> SearchTrainer:
        """As :meth:`SupernetTrainer.from_cfg`; ``teacher`` as in the class."""
        search = cfg.SEARCH
        estimator = get_estimator(search.ESTIMATOR)
        if isinstance(estimator, AdditiveEstimator):
            estimator.forgetting = search.FORGETTING
        searchers = [
            ArchitectureSearcher(
                budget.space,
                budget.cost,
                budget.target,
                floor=search.FLOOR,
                estimator=estimator,
                sampling=SAMPLING[search.SAMPLING](search),
                distribution=FIRST_DISTRIBUTION[search.DISTRIBUTION],
                beta=search.BETA,
                lr=search.ALPHA_LR,
                seed=cfg.SEED + number,
            )
            for number, budget in enumerate(setup.budgets)
        ]
        is_mixed = search.DISTRIBUTION == "mixed"
        return cls(
            supernet,
            SharedSGD.from_cfg(cfg, supernet.store),
            searchers,
            setup.train_loader,
            setup.val_loader,
            joint_iteration=setup.iterations(search.JOINT_EPOCH) if is_mixed else None,
            likelihood_scale=search.LIKELIHOOD_SCALE,
            warmup_samples=search.WARMUP_SAMPLES or None,
            warmup_iterations=setup.iterations(cfg.SEARCH.WARMUP_EPOCHS),
            rating_share=search.RATING_SHARE,
            clip_grad_norm=cfg.SOLVER.CLIP_GRAD_NORM,
            channels_last=cfg.SOLVER.CHANNELS_LAST,
            amp=cfg.SOLVER.AMP,
            teacher=teacher,
            distill_weight=cfg.SOLVER.DISTILL.WEIGHT,
            temperature=cfg.SOLVER.DISTILL.TEMPERATURE,
        )

    def _draw(self) -> Sample:
        if self.iter == self._joint_iteration:
            for searcher in self.searchers:
                searcher.convert_to_joint()
        choices = self.searcher.ask(self._warmup_samples if self.warming_up else None)
        return Sample(choices, [self.supernet.bind(row) for row in choices])

    def _backward(self, sample: Sample, batch: Batch) -> Tensor:
        """The mean over the networks, each of which goes backward by itself."""
        lesson = None if self._teacher is None else self._lesson(batch)
        losses = []
        for network in sample.networks:
            loss = self._loss(network, batch) if lesson is None else lesson(network)
            (loss / len(sample.networks)).backward()
            losses.append(loss.detach())
        return torch.stack(losses).mean()

    def _lesson(self, batch: Batch) -> Callable[[nn.Module], Tensor]:
        """The loss of a network that learns from the teacher, too, which sees ``batch`` once."""
        images, labels = batch
        with torch.no_grad(), self._autocast(images):
            taught = self._teacher(images).float()

        def loss(network: nn.Module) -> Tensor:
            with self._autocast(images):
                logits = network(images).float()
            distillation = distillation_loss(logits, taught, self._temperature)
            own = F.cross_entropy(logits, labels)
            return (1 - self._distill_weight) * own + self._distill_weight * distillation

        return loss

    def _gradients(self) -> list[Tensor]:
        return [weight.grad for weight in self.supernet.store.touched()]

    def _update_alpha(self, sample: Sample, batch: Batch) -> dict[str, float]:
        log_likelihoods = self._log_likelihoods(sample.networks, batch)
        scalars = self.searcher.tell(sample.choices, log_likelihoods)
        for other in self.searchers:
            if other is not self.searcher:
                other.observe(sample.choices, log_likelihoods)
        scalars["val_loss"] = -scalars.pop("log_likelihood") / self._likelihood_scale
        return scalars

    def _leave_alpha(self) -> dict[str, float]:
        return self.searcher.discard()

    @torch.no_grad()
    def _log_likelihoods(self, networks: Sequence[SearchedNet], batch: Batch) -> Tensor:
        """Scaled log-likelihood of the validation batch for each of the K ``networks``, ``[K]``."""
        losses = torch.stack([self._loss(network, batch) for network in networks])
        losses = comm.all_reduce_mean(losses)
        check_finite(losses.sum(), self.iter, "validation loss")
        return -self._likelihood_scale * losses


# SEARCH.METHOD -> the trainer that is this method
SEARCH_METHODS: dict[str, type[SupernetTrainer]] = {
    "probabilistic": SearchTrainer,
    "differentiable": DifferentiableTrainer,
}


def search_method(cfg: CfgNode) -> type[SupernetTrainer]:
    """The method that SEARCH.METHOD names.

    Raises ConfigError on an unknown one, and on keys that do not apply to it.
    """
    name = cfg.SEARCH.METHOD
    check_name("SEARCH.METHOD", name, SEARCH_METHODS)
    method = SEARCH_METHODS[name]
    unused = [f"SEARCH.{key}" for key in method.unused]
    check_unused(cfg, unused, f"SEARCH.METHOD {name!r}")
    return method
