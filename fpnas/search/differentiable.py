"""The differentiable search of FBNetV2 [Wan et al. 2020], a baseline on the same engine.

Instead of drawing architectures, each step draws a mixture of all of them (Gumbel-softmax, Jang et
al. 2016), through which the loss has a gradient in alpha. All choices are computed in every step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from fpnas.data.batch_source import BatchSource
from fpnas.engine import check_finite
from fpnas.errors import UserError
from fpnas.modeling.masked_supernet import MaskedSuperNet
from fpnas.search.costs import CostFunction, ExpectedCost
from fpnas.search.searcher import ArchitectureSearcher
from fpnas.search.supernet_trainer import SupernetTrainer
from fpnas.spaces import NetworkSpace
from fpnas.utils import comm


class RelaxedSearcher(ArchitectureSearcher):
    """Learns a factorised P(A | alpha) from the gradient of a loss, not from likelihoods.

    Every step is ``weights = searcher.relax(temperature)`` and ``searcher.learn(loss)`` with a loss
    that was computed from the weights. Alpha follows the loss plus ``beta`` times the hinge of the
    expected cost, max(0, E[cost] / target - 1), with Adam. The result, its promise of a cost within
    the target and the state to resume from are those of :class:`ArchitectureSearcher`.

    ``history`` holds, from before each step's update, ``entropy`` (nats), ``num_samples`` (1: a
    mixture), ``expected_cost`` (exact), ``mode_cost`` and ``val_loss``.
    """

    def __init__(
        self,
        space: NetworkSpace,
        cost: CostFunction,
        target: float,
        *,
        floor: float = 0.0,
        beta: float = 0.3,
        lr: float = 0.016,
        seed: int = 0,
    ) -> None:
        """Arguments as in :class:`ArchitectureSearcher`; ``cost`` is a sum over blocks.

        ``floor`` only limits the result: the expected cost is not held above it.
        """
        super().__init__(
            space,
            cost,
            target,
            floor=floor,
            distribution="factorized",
            beta=beta,
            lr=lr,
            seed=seed,
        )
        self._expected = ExpectedCost(space, cost)

    def probabilities(self) -> list[Tensor]:
        """The probabilities [values] of each variable, float64, differentiable in alpha."""
        return self._rows(self.distribution.factor_log_probs().exp())

    def expected_cost(self) -> Tensor:
        """E[cost] under the distribution, a float64 scalar, differentiable in alpha."""
        return self._expected(self.probabilities())

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
                "mode_cost": float(self.cost(self.distribution.mode()[None])[0]),
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
        for name, value in scalars.items():
            self.history.setdefault(name, []).append(value)
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
        supernet: the shared weights.
        optimizer: of omega, any of torch.
        searchers: of alpha; step i is of searcher i modulo their number.
        train_loader, val_loader, warmup_iterations: as in :class:`SupernetTrainer`.
        iterations: steps of the whole search, over which the temperature falls.
        temperatures: of the Gumbel-softmax, in the first and in the last step.
        clip_grad_norm, channels_last, amp: as in :class:`SupernetTrainer`.

    Raises UserError on temperatures that are not above 0.
    """

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

    @property
    def temperature(self) -> float:
        """Of the current step."""
        first, last = self._temperatures
        steps = max(1, self._iterations - self._warmup_iterations - 1)
        progress = max(0, self.iter - self._warmup_iterations) / steps
        return first * (last / first) ** min(1.0, progress)

    def run_step(self) -> None:
        """Update omega, then, after the warm-up, alpha."""
        searcher = self.searcher
        batch, data_time = self._next(self._train_batches)
        with torch.no_grad():
            weights = searcher.relax(self.temperature)
        loss = self._update_weights(self._loss(batch, weights))
        if self.warming_up:
            scalars = searcher.scalars()
        else:
            batch, val_data_time = self._next(self._val_batches)
            data_time += val_data_time
            val_loss = self._loss(batch, searcher.relax(self.temperature))
            check_finite(comm.all_reduce_mean(val_loss.detach()), self.iter, "validation loss")
            scalars = searcher.learn(val_loss)
        self.storage.put_scalars(
            loss=loss,
            data_time=data_time,
            target=searcher.target,
            temperature=self.temperature,
            **scalars,
        )

    def _update_weights(self, loss: Tensor) -> Tensor:
        """One step of omega on ``loss``; its mean over the processes."""
        loss.backward()
        mean_loss = comm.all_reduce_mean(loss.detach())
        check_finite(mean_loss, self.iter)
        used = [p for p in self.supernet.parameters() if p.grad is not None]
        if comm.get_world_size() > 1:
            for parameter in used:
                parameter.grad = comm.all_reduce_mean(parameter.grad)
        if self._clip_grad_norm:
            torch.nn.utils.clip_grad_norm_(used, self._clip_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return mean_loss

    def _loss(self, batch: tuple[Tensor, Tensor], weights: Sequence[Tensor]) -> Tensor:
        images, labels = batch
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._amp):
            logits = self.supernet.mix(images, weights)
        return F.cross_entropy(logits.float(), labels)
