"""Shuffled batches of samples of any kind: images with boxes, with masks, and so on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.utils.data import Dataset

from fpnas.data.streaming import stream
from fpnas.errors import ConfigError, DataError
from fpnas.utils.rng import derive_seed, generator_for


class Samples(Protocol):
    """Numbered samples, augmented anew whenever one is taken."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any:
        """Draws from torch's global generator. Raises DataError on an unreadable file."""


@dataclass(frozen=True)
class _Made:
    """What a worker hands over: a batch, or the message of its error."""

    batch: Any
    error: str | None = None


class _Source(Dataset):
    """Makes batches of (epoch, index) keys; each sample is augmented with a seed of its own."""

    def __init__(self, samples: Samples, collate: Callable[[list[Any]], Any], seed: int) -> None:
        self._samples = samples
        self._collate = collate
        self._seed = seed

    def __len__(self) -> int:
        return len(self._samples)

    def __getitems__(self, keys: list[tuple[int, int]]) -> _Made:
        made = []
        with torch.random.fork_rng(devices=[]):  # with no workers this is the trainer's process
            try:
                for epoch, index in keys:
                    torch.default_generator.manual_seed(derive_seed(self._seed, epoch, index))
                    made.append(self._samples[index])
            except DataError as error:
                return _Made(None, str(error))
        return _Made(self._collate(made))


class SampleBatches:
    """Endless shuffled batches, a pure function of seed and iteration.

    Args:
        samples: the training samples.
        collate: makes a batch of a list of them.
        batch_size: samples of a batch; an epoch leaves out the remainder.
        seed: of order and augmentation.
        num_workers: processes that read and augment; 0: the caller does.

    Raises ConfigError if there are fewer samples than a batch has.
    """

    def __init__(
        self,
        samples: Samples,
        collate: Callable[[list[Any]], Any],
        batch_size: int,
        seed: int,
        num_workers: int,
    ) -> None:
        if not 1 <= batch_size <= len(samples):
            raise ConfigError(
                f"SOLVER.BATCH_SIZE is {batch_size}; valid: 1 to {len(samples)}, the training "
                "images."
            )
        self._source = _Source(samples, collate, seed)
        self._batch_size = batch_size
        self._seed = seed
        self._num_workers = num_workers

    def __len__(self) -> int:
        """Iterations of an epoch."""
        return len(self._source) // self._batch_size

    def iterate(self, start_iteration: int = 0) -> Iterator[Any]:
        """Batches from ``start_iteration`` on, without end. DataError on an unreadable file."""
        for made in stream(self._source, self._keys(start_iteration), self._num_workers):
            yield made.batch

    def _keys(self, start_iteration: int) -> Iterator[list[tuple[int, int]]]:
        first_epoch, batch = divmod(start_iteration, len(self))
        for epoch in itertools.count(first_epoch):
            generator = generator_for(self._seed, "order", epoch)
            order = torch.randperm(len(self._source), generator=generator).tolist()
            for start in range(batch, len(self)):
                rows = order[start * self._batch_size : (start + 1) * self._batch_size]
                yield [(epoch, index) for index in rows]
            batch = 0
