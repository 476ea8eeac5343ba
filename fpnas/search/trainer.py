"""SearchTrainer: one step of the search on a supernet (sections 3.1 to 3.4 of the paper)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from fpnas.engine import TrainerBase, check_finite
from fpnas.modeling import SuperNet
from fpnas.search.searcher import ArchitectureSearcher
from fpnas.solver.shared_sgd import SharedSGD
from fpnas.utils import comm

# Images [N, 3, H, W] and labels [N].
Batch = tuple[Tensor, Tensor]


class BatchSource(Protocol):
    """Endless batches that can start anywhere, such as :class:`fpnas.data.TrainLoader`."""

    def iterate(self, start_iteration: int = 0) -> Iterator[Batch]:
        """Batches ``start_iteration``, ``start_iteration + 1``, ... without end."""


class SearchTrainer(TrainerBase):
    """Learns the supernet's weights omega and the distribution's alpha together.

    A step draws K architectures. Each of them takes the same training batch forward and backward;
    omega follows the mean of their gradients. Then each of them rates the same validation batch,
    and alpha follows the likelihoods. In the warm-up omega alone is learned.

    BatchNorm normalises with the statistics of the batch at hand in both passes, so that no
    architecture is rated with the statistics of others.

    Several searchers, one for each budget, share the supernet and its warm-up: they take the steps
    in turn.

    With several processes, all draw the same architectures; gradients and likelihoods are averaged
    over the processes once a step.

    Args:
        supernet: the shared weights.
        optimizer: of omega.
        searchers: of alpha; step i is of searcher i modulo their number.
        train_loader: the training half; step i takes batch i.
        val_loader: the validation half; step ``warmup_iterations + i`` takes batch i.
        warmup_iterations: steps that leave alpha alone.
        joint_iteration: step before which factorised distributions turn joint; None: never.
        likelihood_scale: the log-likelihood of a validation batch is this times its mean per image.
        clip_grad_norm: largest norm of omega's gradient; 0: no limit.
        channels_last: memory format of the images, which the supernet's should be, too.
        amp: bfloat16 autocast.
    """

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
        clip_grad_norm: float = 0.0,
        channels_last: bool = False,
        amp: bool = False,
    ) -> None:
        super().__init__()
        self.supernet = supernet
        self.optimizer = optimizer
        self.searchers = tuple(searchers)
        self._train_loader = train_loader
        self._val_loader = val_loader
        self._warmup_iterations = warmup_iterations
        self._joint_iteration = joint_iteration
        self._likelihood_scale = likelihood_scale
        self._clip_grad_norm = clip_grad_norm
        self._amp = amp
        self._device = next(supernet.parameters()).device
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def before_train(self) -> None:
        """Start the data where this run starts."""
        self._train_batches = self._train_loader.iterate(self.start_iter)
        first_val = max(0, self.start_iter - self._warmup_iterations)
        self._val_batches = self._val_loader.iterate(first_val)
        super().before_train()

    def after_train(self) -> None:
        """Let go of the data: its workers end."""
        del self._train_batches, self._val_batches
        super().after_train()

    def run_step(self) -> None:
        """Draw, update omega, rate, update alpha."""
        if self.iter == self._joint_iteration:
            for searcher in self.searchers:
                searcher.convert_to_joint()
        searcher = self.searchers[self.iter % len(self.searchers)]
        batch, data_time = self._next(self._train_batches)
        choices = searcher.ask()
        loss = self._update_weights(choices, batch)
        if self.iter < self._warmup_iterations:
            scalars = searcher.discard()
        else:
            batch, val_data_time = self._next(self._val_batches)
            data_time += val_data_time
            scalars = searcher.tell(choices, self._log_likelihoods(choices, batch))
            scalars["val_loss"] = -scalars.pop("log_likelihood") / self._likelihood_scale
        self.storage.put_scalars(loss=loss, data_time=data_time, target=searcher.target, **scalars)

    def _next(self, batches: Iterator[Batch]) -> tuple[Batch, float]:
        """A batch on the supernet's device, and the seconds that it was waited for."""
        start = time.perf_counter()
        images, labels = next(batches)
        waited = time.perf_counter() - start
        images = images.to(self._device, memory_format=self._memory_format, non_blocking=True)
        return (images, labels.to(self._device, non_blocking=True)), waited

    def _update_weights(self, choices: Tensor, batch: Batch) -> Tensor:
        """One step of omega on the mean loss of the architectures ``choices[K, V]``; that loss."""
        images, labels = batch
        losses = []
        for row in choices:
            loss = self._loss(images, labels, row)
            (loss / len(choices)).backward()
            losses.append(loss.detach())
        mean_loss = comm.all_reduce_mean(torch.stack(losses).mean())
        check_finite(mean_loss, self.iter)
        grads = [weight.grad for weight in self.supernet.store.touched()]
        _average_over_processes(grads)
        if self._clip_grad_norm:
            _clip(grads, self._clip_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return mean_loss

    @torch.no_grad()
    def _log_likelihoods(self, choices: Tensor, batch: Batch) -> Tensor:
        """Scaled log-likelihood of the validation batch for each of ``choices[K, V]``, ``[K]``."""
        images, labels = batch
        losses = torch.stack([self._loss(images, labels, row) for row in choices])
        losses = comm.all_reduce_mean(losses)
        check_finite(losses.sum(), self.iter, "validation loss")
        return -self._likelihood_scale * losses

    def _loss(self, images: Tensor, labels: Tensor, choices: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._amp):
            logits = self.supernet(images, choices)
        return F.cross_entropy(logits.float(), labels)

    def state_dict(self) -> dict[str, Any]:
        """The loop's state, alpha and omega's optimizer. (The supernet is saved as the model.)"""
        return {
            **super().state_dict(),
            "searchers": [searcher.state_dict() for searcher in self.searchers],
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        for searcher, own in zip(self.searchers, state["searchers"], strict=True):
            searcher.load_state_dict(own)
        self.optimizer.load_state_dict(state["optimizer"])


def _average_over_processes(grads: list[Tensor]) -> None:
    """Replace gradients by their mean over the processes, in one collective."""
    if comm.get_world_size() == 1:
        return
    mean = comm.all_reduce_mean(torch.cat([grad.reshape(-1) for grad in grads]))
    for grad, part in zip(grads, mean.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view(grad.shape))


def _clip(grads: list[Tensor], max_norm: float) -> None:
    norm = torch.nn.utils.get_total_norm(grads)
    torch._foreach_mul_(grads, torch.clamp(max_norm / (norm + 1e-6), max=1.0))
