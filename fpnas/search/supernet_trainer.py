"""What every search on a supernet has: weights, searchers, two halves of the data, and its step."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from fpnas.config import CfgNode
from fpnas.data.streaming import BatchSource
from fpnas.engine import TrainerBase, check_finite
from fpnas.errors import UserError
from fpnas.modeling import SuperNet
from fpnas.search.searcher import ArchitectureSearcher
from fpnas.search.setup import SearchSetup
from fpnas.solver import restore_optimizer
from fpnas.utils import comm

# Images [N, 3, H, W] and labels [N].
Batch = tuple[Tensor, Tensor]


class SupernetTrainer(TrainerBase):
    """Base of the trainers that learn omega on one half of the images and alpha on the other.

    A step draws something that alpha describes; omega follows its loss on a training batch; then,
    after the warm-up, alpha follows what a validation batch says. A subclass is a search method: it
    says what is drawn and what is learned from it, and builds itself from a config.

    Several searchers, one for each budget, share the supernet and its warm-up: they take the steps
    in turn.

    After the warm-up a share of the steps may leave omega alone (``rating_share``): round i of the
    searchers' turns does if ``floor((i + 1) * share) > floor(i * share)``, so that these rounds are
    spread evenly. The schedule of the learning rate counts the other steps only: it would otherwise
    end on steps that learn nothing.

    Args:
        supernet: the shared weights.
        optimizer: of omega.
        searchers: of alpha; step i is of searcher i modulo their number.
        train_loader: the training half; the i-th step that updates omega takes batch i.
        val_loader: the validation half; step ``warmup_iterations + i`` takes batch i.
        warmup_iterations: steps that leave alpha alone.
        rating_share: share of the steps after the warm-up that leave omega alone, 0 to 1.
        clip_grad_norm: largest norm of omega's gradient; 0: no limit.
        channels_last: memory format of the images, which the supernet's should be, too.
        amp: bfloat16 autocast.

    Raises UserError on a ``rating_share`` that is none.

    Attributes:
        supernet_type: class of its supernet.
        rated: what its samples are called in the report.
        unused: keys under cfg.SEARCH that do not apply to it.
    """

    supernet_type: ClassVar[type[SuperNet]] = SuperNet
    rated: ClassVar[str] = "architectures"
    unused: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        supernet: SuperNet,
        optimizer: torch.optim.Optimizer,
        searchers: Sequence[ArchitectureSearcher],
        train_loader: BatchSource,
        val_loader: BatchSource,
        *,
        warmup_iterations: int,
        rating_share: float = 0.0,
        clip_grad_norm: float = 0.0,
        channels_last: bool = False,
        amp: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= rating_share <= 1:
            raise UserError(f"rating_share is a share, 0 to 1; found {rating_share}.")
        self.supernet = supernet
        self.optimizer = optimizer
        self.searchers = tuple(searchers)
        self._train_loader = train_loader
        self._val_loader = val_loader
        self._warmup_iterations = warmup_iterations
        self._rating_share = rating_share
        self._clip_grad_norm = clip_grad_norm
        self._amp = amp
        self._device = next(supernet.parameters()).device
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format

    @classmethod
    def build_supernet(cls, cfg: CfgNode, setup: SearchSetup) -> SuperNet:
        """A new supernet of the method's kind, where and as it is trained."""
        supernet = cls.supernet_type(
            setup.space, setup.num_classes, cfg.SEARCH.SHARING, cfg.SEARCH.ZERO_INIT_RESIDUAL
        ).to(comm.get_device())
        if cfg.SOLVER.CHANNELS_LAST:
            supernet = supernet.to(memory_format=torch.channels_last)
        return supernet

    @classmethod
    @abstractmethod
    def from_cfg(cls, cfg: CfgNode, setup: SearchSetup, supernet: SuperNet) -> SupernetTrainer:
        """The trainer of ``supernet`` that SEARCH and SOLVER ask for, on what ``setup`` holds."""

    @property
    def searcher(self) -> ArchitectureSearcher:
        """The searcher whose turn it is."""
        return self.searchers[self.iter % len(self.searchers)]

    @property
    def warming_up(self) -> bool:
        """Whether the current step leaves alpha alone."""
        return self.iter < self._warmup_iterations

    @property
    def rating_only(self) -> bool:
        """Whether the current step leaves omega alone."""
        return self._rating_steps(self.iter + 1) > self._rating_steps(self.iter)

    @property
    def progress(self) -> float:
        """Steps of omega that are done, share of all: where its learning rate is."""
        total = self.max_iter - self._rating_steps(self.max_iter)
        done = self.iter - self._rating_steps(self.iter)
        return min(done, total - 1) / total if total else 0.0

    def _rating_steps(self, steps: int) -> int:
        """How many of the first ``steps`` leave omega alone."""
        after = max(0, steps - self._warmup_iterations)
        rounds, turns = divmod(after, len(self.searchers))
        before, with_this = (math.floor(n * self._rating_share) for n in (rounds, rounds + 1))
        return before * len(self.searchers) + (turns if with_this > before else 0)

    def before_train(self) -> None:
        """Start the data where this run starts."""
        first_train = self.start_iter - self._rating_steps(self.start_iter)
        self._train_batches = self._train_loader.iterate(first_train)
        first_val = max(0, self.start_iter - self._warmup_iterations)
        self._val_batches = self._val_loader.iterate(first_val)
        super().before_train()

    def after_train(self) -> None:
        """Let go of the data: its workers end."""
        del self._train_batches, self._val_batches
        super().after_train()

    def run_step(self) -> None:
        """Draw, update omega unless the step only rates and, after the warm-up, alpha."""
        searcher = self.searcher
        learned: dict[str, Tensor] = {}
        data_time = 0.0
        if self.rating_only:
            with torch.no_grad():
                sample = self._draw()
        else:
            batch, data_time = self._next(self._train_batches)
            sample = self._draw()
            learned["loss"] = self._update_weights(sample, batch)
        if self.warming_up:
            scalars = self._leave_alpha()
        else:
            batch, waited = self._next(self._val_batches)
            data_time += waited
            scalars = self._update_alpha(sample, batch)
        self.storage.put_scalars(**learned, data_time=data_time, target=searcher.target, **scalars)

    @abstractmethod
    def _draw(self) -> Any:
        """What this step trains and rates."""

    @abstractmethod
    def _backward(self, sample: Any, batch: Batch) -> Tensor:
        """The loss of ``sample`` on a training batch, after its backward pass."""

    @abstractmethod
    def _gradients(self) -> list[Tensor]:
        """Those of omega that the backward pass left."""

    @abstractmethod
    def _update_alpha(self, sample: Any, batch: Batch) -> dict[str, float]:
        """Let the searcher learn from a validation batch; the step's scalars."""

    @abstractmethod
    def _leave_alpha(self) -> dict[str, float]:
        """The scalars of a step of the warm-up, which leaves alpha alone."""

    def _update_weights(self, sample: Any, batch: Batch) -> Tensor:
        """One step of omega on the loss of ``sample``; that loss, its mean over the processes."""
        loss = comm.all_reduce_mean(self._backward(sample, batch))
        check_finite(loss, self.iter)
        grads = self._gradients()
        if comm.get_world_size() > 1:
            _average_over_processes(grads)
        if self._clip_grad_norm:
            norm = torch.nn.utils.get_total_norm(grads)
            torch._foreach_mul_(grads, (self._clip_grad_norm / (norm + 1e-6)).clamp(max=1.0))
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss

    def _loss(self, network: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        """Cross-entropy, the mean over the batch."""
        images, labels = batch
        with self._autocast(images):
            logits = network(images)
        return F.cross_entropy(logits.float(), labels)

    def _autocast(self, images: Tensor) -> torch.autocast:
        """bfloat16 where SOLVER.AMP asks for it."""
        return torch.autocast(images.device.type, torch.bfloat16, enabled=self._amp)

    def _next(self, batches: Iterator[Batch]) -> tuple[Batch, float]:
        """A batch on the supernet's device, and the seconds that it was waited for."""
        start = time.perf_counter()
        images, labels = next(batches)
        waited = time.perf_counter() - start
        images = images.to(self._device, memory_format=self._memory_format)
        return (images, labels.to(self._device)), waited

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
        restore_optimizer(self.optimizer, state["optimizer"])


def _average_over_processes(grads: list[Tensor]) -> None:
    """Replace gradients by their mean over the processes, in one collective."""
    mean = comm.all_reduce_mean(torch.cat([grad.reshape(-1) for grad in grads]))
    for grad, part in zip(grads, mean.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view(grad.shape))
