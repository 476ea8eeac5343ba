"""The differentiable search of FBNetV2 [Wan et al. 2020], a baseline on the same engine.

Instead of drawing architectures, each step draws a mixture of all of them (Gumbel-softmax, Jang et
al. 2016), through which the loss has a gradient in alpha. All choices are computed in every step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fpnas.config import CfgNode
from fpnas.data.streaming import BatchSource
from fpnas.engine import check_finite
from fpnas.errors import UserError
from fpnas.modeling.masked_supernet import MaskedSuperNet
from fpnas.search.searcher import ArchitectureSearcher
from fpnas.search.setup import SearchSetup
from fpnas.search.supernet_trainer import Batch, SupernetTrainer
from fpnas.solver import build_optimizer
from fpnas.spaces import CostTable
from fpnas.utils import comm


class RelaxedSearcher(ArchitectureSearcher):
    """Learns a factorised P(A | alpha) from the gradient of a loss, not from likelihoods.

    Every step is ``weights = searcher.relax(temperature)`` and ``searcher.learn(loss)`` with a loss
    that was computed from the weights. Alpha follows the loss plus ``beta`` times the hinge of the
    expected cost, max(0, E[cost] / target - 1), with Adam. The result, its promise of a cost within
    the target and the state to resume from are those of :class:`ArchitectureSearcher`, and so are
    its arguments, but for what is about samples. ``cost`` is a :class:`CostTable`, such as
    ``space.cost_table("flops")``, and needs a target; ``floor`` only limits the result: the
    expected cost is not held above it.

    ``history`` holds, from before each step's update, ``entropy`` (nats), ``num_samples`` (1: a
    mixture), ``expected_cost`` (exact), ``mode_cost`` and ``val_loss``.
    """

    cost: CostTable

    def probabilities(self) -> list[Tensor]:
        """The probabilities [values] of each variable, float64, differentiable in alpha."""
        return self._rows(self.distribution.factor_log_probs().exp())

    def expected_cost(self) -> Tensor:
        """E[cost] under the distribution, a float64 scalar, differentiable in alpha."""
        return self.cost.expected(self.probabilities())

    def relax(self, temperature: float) -> list[Tensor]:
        """A random relaxed one-hot [values] for each variable, float64, differentiable in alpha.

        Low temperatures bring them close to one-hot. Raises UserError unless it is above 0.
        """
        if temperature <= 0:
            raise UserError(f"A temperature must be above 0, found {temperature}.")
        log_probs = self.distribution.factor_log_probs()
        uniform = torch.rand(log_probs.shape, dtype=torch.float64, generator=self.generator)
        tiny = torch.finfo(torch.float64).tiny
        gumbel = -(-uniform.clamp(min=tiny).log()).log()
        return self._rows(torch.softmax((log_probs + gumbel) / temperature, dim=1))

    def scalars(self) -> dict[str, float]:
        """What ``history`` says about the present distribution."""
        with torch.no_grad():
            return {
                "entropy": float(self.distribution.entropy()),
                "num_samples": 1,
                "expected_cost": float(self.expected_cost()),
                "mode_cost": float(self.costs(self.distribution.mode()[None])[0]),
            }

    def learn(self, loss: Tensor) -> dict[str, float]:
        """Update alpha to lower ``loss`` and the expected cost; the step's scalars.

        Only the gradient in alpha is computed: the network's weights get none.
        """
        scalars = {**self.scalars(), "val_loss": float(comm.all_reduce_mean(loss.detach()))}
        excess = (self.expected_cost() / self.target - 1).clamp(min=0)
        logits = self.distribution.logits
        [gradient] = torch.autograd.grad(loss + self.beta * excess, logits)
        logits.grad = comm.all_reduce_mean(gradient)
        self._optimizer.step()
        self._record(scalars)
        return scalars

    def _rows(self, values: Tensor) -> list[Tensor]:
        """[F, C] without its padding."""
        sizes = self.distribution.factor_sizes
        return [row[:size] for row, size in zip(values, sizes, strict=True)]


class DifferentiableTrainer(SupernetTrainer):
    """Learns omega and alpha in turn, both through random mixtures of all choices.

    A step draws a mixture, and omega follows its loss on a training batch; then it draws another
    one, and alpha follows its loss on a validation batch. In the warm-up omega alone is learned.
    The temperature falls exponentially from the end of the warm-up to the end of the search.

    Args:
        supernet, optimizer, searchers, train_loader, val_loader, warmup_iterations, clip_grad_norm,
            channels_last, amp: as in :class:`SupernetTrainer`.
        iterations: steps of the whole search, over which the temperature falls.
        temperatures: of the Gumbel-softmax, in the first and in the last step.

    Raises UserError on temperatures that are not above 0.
    """

    supernet_type = MaskedSuperNet
    rated = "mixtures of all choices"
    unused = (
        *("DISTRIBUTION", "JOINT_EPOCH", "SAMPLING", "LAMBDA", "NUM_SAMPLES", "ESTIMATOR"),
        "FORGETTING",
        *("LIKELIHOOD_SCALE", "WARMUP_SAMPLES", "RATING_SHARE", "CLASSIFIER_LR"),
    )
    supernet: MaskedSuperNet
    searcher: RelaxedSearcher

    def __init__(
        self,
        supernet: MaskedSuperNet,
        optimizer: torch.optim.Optimizer,
        searchers: Sequence[RelaxedSearcher],
        train_loader: BatchSource,
        val_loader: BatchSource,
        *,
        warmup_iterations: int,
        iterations: int,
        temperatures: tuple[float, float] = (5.0, 0.5),
        clip_grad_norm: float = 0.0,
        channels_last: bool = False,
        amp: bool = False,
    ) -> None:
        super().__init__(
            supernet,
            optimizer,
            searchers,
            train_loader,
            val_loader,
            warmup_iterations=warmup_iterations,
            clip_grad_norm=clip_grad_norm,
            channels_last=channels_last,
            amp=amp,
        )
        if min(temperatures) <= 0:
            raise UserError(f"Temperatures must be above 0, found {temperatures}.")
        self._iterations = iterations
        self._temperatures = temperatures

    @classmethod
    def from_cfg(
        cls, cfg: CfgNode, setup: SearchSetup, supernet: MaskedSuperNet
    ) -> DifferentiableTrainer:
        search = cfg.SEARCH
        searchers = [
            RelaxedSearcher(
                budget.space,
                budget.cost,
                budget.target,
                floor=search.FLOOR,
                beta=search.BETA,
                lr=search.ALPHA_LR,
                seed=cfg.SEED + number,
            )
            for number, budget in enumerate(setup.budgets)
        ]
        return cls(
            supernet,
            build_optimizer(cfg, supernet),
            searchers,
            setup.train_loader,
            setup.val_loader,
            iterations=setup.max_iter,
            temperatures=(cfg.SEARCH.TEMPERATURE_START, cfg.SEARCH.TEMPERATURE_END),
            warmup_iterations=setup.iterations(cfg.SEARCH.WARMUP_EPOCHS),
            clip_grad_norm=cfg.SOLVER.CLIP_GRAD_NORM,
            channels_last=cfg.SOLVER.CHANNELS_LAST,
            amp=cfg.SOLVER.AMP,
        )

    @property
    def temperature(self) -> float:
        """Of the current step."""
        first, last = self._temperatures
        steps = max(1, self._iterations - self._warmup_iterations - 1)
        progress = max(0, self.iter - self._warmup_iterations) / steps
        return first * (last / first) ** min(1.0, progress)

    def _draw(self) -> list[Tensor]:
        with torch.no_grad():
            return self.searcher.relax(self.temperature)

    def _backward(self, sample: list[Tensor], batch: Batch) -> Tensor:
        loss = self._mixture_loss(sample, batch)
        loss.backward()
        return loss.detach()

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self.supernet.parameters() if p.grad is not None]

    def _update_alpha(self, sample: list[Tensor], batch: Batch) -> dict[str, float]:
        """By the loss of another mixture, whose weights have a gradient in alpha."""
        loss = self._mixture_loss(self.searcher.relax(self.temperature), batch)
        check_finite(comm.all_reduce_mean(loss.detach()), self.iter, "validation loss")
        return {"temperature": self.temperature, **self.searcher.learn(loss)}

    def _leave_alpha(self) -> dict[str, float]:
        return {"temperature": self.temperature, **self.searcher.scalars()}

    def _mixture_loss(self, weights: Sequence[Tensor], batch: Batch) -> Tensor:
        return self._loss(lambda images: self.supernet.mix(images, weights), batch)
