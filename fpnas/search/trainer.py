"""SearchTrainer: one step of the search on a supernet (sections 3.1 to 3.4 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from fpnas.data.loader import BatchSource
from fpnas.engine import check_finite
from fpnas.modeling import SearchedNet, SuperNet
from fpnas.search.searcher import ArchitectureSearcher
from fpnas.search.supernet_trainer import Batch, SupernetTrainer
from fpnas.solver.shared_sgd import SharedSGD
from fpnas.utils import comm


class SearchTrainer(SupernetTrainer):
    """Learns the supernet's weights omega and the distribution's alpha together.

    A step draws K architectures. Each of them takes the same training batch forward and backward;
    omega follows the mean of their gradients. Then each of them rates the same validation batch,
    and alpha follows the likelihoods. In the warm-up omega alone is learned.

    BatchNorm normalises with the statistics of the batch at hand in both passes, so that no
    architecture is rated with the statistics of others.

    With several processes, all draw the same architectures; gradients and likelihoods are averaged
    over the processes once a step.

    Args:
        supernet: the shared weights.
        optimizer: of omega.
        searchers: of alpha; step i is of searcher i modulo their number.
        train_loader: the training half; step i takes batch i.
        val_loader: the validation half; step ``warmup_iterations + i`` takes batch i.
        warmup_iterations: steps that leave alpha alone.
        warmup_samples: architectures of each of these steps; None: as the sampling rule says.
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
        warmup_samples: int | None = None,
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
        self._joint_iteration = joint_iteration
        self._warmup_samples = warmup_samples
        self._likelihood_scale = likelihood_scale

    def run_step(self) -> None:
        """Draw, update omega, rate, update alpha."""
        if self.iter == self._joint_iteration:
            for searcher in self.searchers:
                searcher.convert_to_joint()
        searcher = self.searcher
        batch, data_time = self._next(self._train_batches)
        choices = searcher.ask(self._warmup_samples if self.warming_up else None)
        networks = [self.supernet.bind(row) for row in choices]
        loss = self._update_weights(networks, batch)
        if self.warming_up:
            scalars = searcher.discard()
        else:
            batch, val_data_time = self._next(self._val_batches)
            data_time += val_data_time
            scalars = searcher.tell(choices, self._log_likelihoods(networks, batch))
            scalars["val_loss"] = -scalars.pop("log_likelihood") / self._likelihood_scale
        self.storage.put_scalars(loss=loss, data_time=data_time, target=searcher.target, **scalars)

    def _update_weights(self, networks: Sequence[SearchedNet], batch: Batch) -> Tensor:
        """One step of omega on the mean loss of the sampled ``networks``; that loss."""
        images, labels = batch
        losses = []
        for network in networks:
            loss = self._loss(network, images, labels)
            (loss / len(networks)).backward()
            losses.append(loss.detach())
        mean_loss = comm.all_reduce_mean(torch.stack(losses).mean())
        check_finite(mean_loss, self.iter)
        if comm.get_world_size() > 1 or self._clip_grad_norm:
            self._adjust_gradients()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return mean_loss

    def _adjust_gradients(self) -> None:
        """Average the gradients over the processes, then limit their norm."""
        grads = [weight.grad for weight in self.supernet.store.touched()]
        if comm.get_world_size() > 1:
            _average_over_processes(grads)
        if self._clip_grad_norm:
            _clip(grads, self._clip_grad_norm)

    @torch.no_grad()
    def _log_likelihoods(self, networks: Sequence[SearchedNet], batch: Batch) -> Tensor:
        """Scaled log-likelihood of the validation batch for each of the K ``networks``, ``[K]``."""
        images, labels = batch
        losses = torch.stack([self._loss(network, images, labels) for network in networks])
        losses = comm.all_reduce_mean(losses)
        check_finite(losses.sum(), self.iter, "validation loss")
        return -self._likelihood_scale * losses

    def _loss(self, network: SearchedNet, images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._amp):
            logits = network(images)
        return F.cross_entropy(logits.float(), labels)


def _average_over_processes(grads: list[Tensor]) -> None:
    """Replace gradients by their mean over the processes, in one collective."""
    mean = comm.all_reduce_mean(torch.cat([grad.reshape(-1) for grad in grads]))
    for grad, part in zip(grads, mean.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view(grad.shape))


def _clip(grads: list[Tensor], max_norm: float) -> None:
    norm = torch.nn.utils.get_total_norm(grads)
    torch._foreach_mul_(grads, torch.clamp(max_norm / (norm + 1e-6), max=1.0))
