"""What every search on a supernet has: weights, searchers and two halves of the data."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fpnas.data.loader import BatchSource
from fpnas.engine import TrainerBase
from fpnas.modeling import SuperNet
from fpnas.search.searcher import ArchitectureSearcher
from fpnas.solver import restore_optimizer

# Images [N, 3, H, W] and labels [N].
Batch = tuple[Tensor, Tensor]


class SupernetTrainer(TrainerBase):
    """Base of the trainers that learn omega on one half of the images and alpha on the other.

    Several searchers, one for each budget, share the supernet and its warm-up: they take the steps
    in turn.

    Args:
        supernet: the shared weights.
        optimizer: of omega.
        searchers: of alpha; step i is of searcher i modulo their number.
        train_loader: the training half; step i takes batch i.
        val_loader: the validation half; step ``warmup_iterations + i`` takes batch i.
        warmup_iterations: steps that leave alpha alone.
        clip_grad_norm: largest norm of omega's gradient; 0: no limit.
        channels_last: memory format of the images, which the supernet's should be, too.
        amp: bfloat16 autocast.
    """

    def __init__(
        self,
        supernet: SuperNet,
        optimizer: torch.optim.Optimizer,
        searchers: Sequence[ArchitectureSearcher],
        train_loader: BatchSource,
        val_loader: BatchSource,
        *,
        warmup_iterations: int,
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
        self._clip_grad_norm = clip_grad_norm
        self._amp = amp
        self._device = next(supernet.parameters()).device
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format

    @property
    def searcher(self) -> ArchitectureSearcher:
        """The searcher whose turn it is."""
        return self.searchers[self.iter % len(self.searchers)]

    @property
    def warming_up(self) -> bool:
        """Whether the current step leaves alpha alone."""
        return self.iter < self._warmup_iterations

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
