"""Shuffled batches made ahead of the trainer: whole ones by a thread, single samples by processes.

A sample is augmented with a seed of its own, so that a batch depends neither on the number of
workers nor on which of them makes it.
"""

from __future__ import annotations

import itertools
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fpnas.errors import ConfigError, DataError
from fpnas.utils.rng import derive_seed, generator_for

T = TypeVar("T")
Keys = list[tuple[int, int]]  # epoch and index of each sample of a batch

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


class BatchSource(Protocol):
    """Endless batches that can start anywhere, such as :class:`fpnas.data.TrainLoader`."""

    def iterate(self, start_iteration: int = 0) -> Iterator[Any]:
        """Batches ``start_iteration``, ``start_iteration + 1``, ... without end."""


def shuffled(
    count: int, batch_size: int, seed: int, start_iteration: int
) -> Iterator[tuple[int, int, Tensor]]:
    """Epoch, number in the epoch and indices (int64 [batch_size]) of every batch, without end.

    The order of an epoch follows from ``seed`` and epoch; what is left of the ``count`` samples for
    a smaller batch is left out.
    """
    per_epoch = count // batch_size
    first_epoch, first = divmod(start_iteration, per_epoch)
    for epoch in itertools.count(first_epoch):
        order = torch.randperm(count, generator=generator_for(seed, "order", epoch))
        for batch in range(first, per_epoch):
            yield epoch, batch, order[batch * batch_size : (batch + 1) * batch_size]
        first = 0


class SampleBatches:
    """Endless shuffled batches of samples of any kind, a pure function of seed and iteration.

    Args:
        samples: those of a training, augmented anew whenever one is taken, by torch's global
            generator. One that is unreadable raises DataError.
        collate: makes a batch of a list of them.
        batch_size: samples of a batch; an epoch leaves out the remainder.
        seed: of order and augmentation.
        num_workers: processes that read and augment; 0: the caller does.

    Raises ConfigError if there are fewer samples than a batch has.
    """

    def __init__(
        self,
        samples: Sequence[Any],
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
        self._samples = samples
        self._collate = collate
        self._batch_size = batch_size
        self._seed = seed
        self._num_workers = num_workers

    def __len__(self) -> int:
        """Iterations of an epoch."""
        return len(self._samples) // self._batch_size

    def iterate(self, start_iteration: int = 0) -> Iterator[Any]:
        """Batches from ``start_iteration`` on, without end. DataError on an unreadable file."""
        order = shuffled(len(self._samples), self._batch_size, self._seed, start_iteration)
        keys = ([(epoch, index) for index in rows.tolist()] for epoch, _, rows in order)
        return stream(self._make, keys, self._num_workers)

    def _make(self, keys: Keys) -> Any:
        made = []
        for epoch, index in keys:
            seed_sample(self._seed, epoch, index)
            made.append(self._samples[index])
        return self._collate(made)


def seed_sample(seed: int, epoch: int, index: int) -> None:
    """Seed torch's global CPU generator for the augmentation of a sample, inside :func:`stream`."""
    torch.default_generator.manual_seed(derive_seed(seed, epoch, index))


def stream(make: Callable[[Keys], T], keys: Iterable[Keys], num_workers: int) -> Iterator[T]:
    """``make`` of every list of keys, in order, by ``num_workers`` processes; 0: by the caller.

    Raises DataError where ``make`` does. torch's global generator is left as it is.
    """
    loader = DataLoader(
        _Batches(make),
        batch_sampler=keys,
        num_workers=num_workers,
        collate_fn=_unchanged,
        worker_init_fn=_leave_signals_to_the_trainer,
        # Without a generator of its own the DataLoader would draw from the global one.
        generator=torch.Generator(),
    )
    with _interrupts_held_back():
        batches = iter(loader)
    for batch in batches:
        if isinstance(batch, _Failed):
            raise DataError(batch.message)
        yield batch


@dataclass(frozen=True)
class _Failed:
    """In place of a batch: torch would put a worker's traceback into the message of its error."""

    message: str


class _Batches(Dataset):
    def __init__(self, make: Callable[[Keys], Any]) -> None:
        self._make = make

    def __getitems__(self, keys: Keys) -> Any:
        """The batch of ``keys``; torch's DataLoader calls this method where there is one."""
        # With no workers this runs in the trainer's process, whose random state must not change.
        # fork_rng with devices=[] and the CPU generator alone leave the GPUs' states untouched.
        with torch.random.fork_rng(devices=[]):
            try:
                return self._make(keys)
            except DataError as error:
                return _Failed(str(error))


def _unchanged(batch: T) -> T:
    return batch


def _leave_signals_to_the_trainer(worker_id: int) -> None:
    """Let the main process decide what Ctrl-C and SIGTERM to the whole group mean.

    On an interrupt the trainer finishes its step and saves. A worker that died of the same signal
    would make torch raise an error in the middle of that step; one that exits with code 0 does not.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Deliver interrupts afterwards. Workers started meanwhile inherit this until they are set."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _End:
    """The last thing in the queue: the iterator is exhausted, or failed with ``error``."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def prefetch(items: Iterator[T], depth: int = 4) -> Iterator[T]:
    """The same items, up to ``depth`` of them made in advance by a thread.

    An exception of ``items`` is raised where the failed item would have come. The thread starts
    with the first item asked for, and ends with the generator: exhausted, closed or collected.
    """
    ready: queue.Queue[T | _End] = queue.Queue(depth)
    stopped = threading.Event()

    def produce() -> None:
        error = None
        try:
            for item in items:
                if stopped.is_set():
                    return
                ready.put(item)
        except BaseException as raised:  # to be raised in the consumer's thread
            error = raised
        ready.put(_End(error))

    thread = threading.Thread(target=produce, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if not isinstance(item, _End):
                yield item
            elif item.error is None:
                return
            else:
                raise item.error
    finally:
        stopped.set()
        # Emptying the queue releases a producer that waits for room in it.
        while thread.is_alive():
            with suppress(queue.Empty):
                ready.get(timeout=0.01)
