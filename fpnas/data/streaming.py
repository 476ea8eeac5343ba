"""Batches made ahead of the trainer: whole ones by a thread, image by image by processes.

Image by image, every image is augmented with a seed of its own, so that a batch does not depend on
the number of workers nor on which of them makes it.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fpnas.data.decode import naming_remedy, try_decode
from fpnas.data.image_set import ImageSet
from fpnas.errors import DataError
from fpnas.utils.rng import derive_seed

logger = logging.getLogger(__name__)

T = TypeVar("T")

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Batch:
    """What a worker hands over: a batch, or the message of the error that prevented it."""

    images: Tensor | None
    labels: Tensor
    skipped: tuple[str, ...] = ()
    error: str | None = None


class SampleSource(Dataset):
    """Makes batches for ``keys``, lists of (epoch, index).

    Args:
        image_set: where the images come from.
        transform: uint8 [3, H, W] -> float32 [3, S, S], drawing from torch's global generator.
        seed: of the augmentation.
        unreadable: what becomes of an unreadable image: "raise"; "replace" it by the next readable
            one; "drop" it from its batch.
    """

    def __init__(
        self,
        image_set: ImageSet,
        transform: Callable[[Tensor], Tensor],
        seed: int,
        unreadable: str,
    ) -> None:
        self.image_set = image_set
        self.transform = transform
        self.seed = seed
        self.unreadable = unreadable

    def __len__(self) -> int:
        return len(self.image_set)

    def __getitems__(self, keys: list[tuple[int, int]]) -> Batch:
        """The batch of ``keys``; torch's DataLoader calls this method where there is one."""
        skipped: list[str] = []
        images, chosen = [], []
        # With no workers this runs in the trainer's process, whose random state must not change.
        # fork_rng with devices=[] and the CPU generator alone leave the GPUs' states untouched.
        with torch.random.fork_rng(devices=[]):
            try:
                for epoch, index in keys:
                    found = self._read(index, skipped)
                    if found is None:
                        continue
                    chosen.append(found[0])
                    torch.default_generator.manual_seed(derive_seed(self.seed, epoch, index))
                    images.append(self.transform(found[1]))
            except DataError as error:
                return Batch(None, torch.empty(0, dtype=torch.long), error=str(error))
        labels = self.image_set.labels[torch.tensor(chosen, dtype=torch.long)]
        return Batch(torch.stack(images) if images else None, labels, tuple(skipped))

    def _read(self, index: int, skipped: list[str]) -> tuple[int, Tensor] | None:
        """The index and pixels of image ``index`` or of its replacement; None to leave it out."""
        for candidate in _cycle(index, len(self.image_set)):
            image = try_decode(self.image_set.image, candidate)
            if isinstance(image, Tensor):
                return candidate, image
            if self.unreadable == "raise":
                raise naming_remedy(image)
            skipped.append(self.image_set.name(candidate))
            if self.unreadable == "drop":
                return None
        raise DataError(f"None of {len(self.image_set)} images is readable, {skipped[0]} for one.")


def stream(
    source: SampleSource, keys: Iterable[list[tuple[int, int]]], num_workers: int
) -> Iterator[Batch]:
    """One batch for every list of keys, in order. Raises DataError where a worker found one.

    The images that were skipped are in ``batch.skipped``; :class:`SkipReport` tells the user.
    """
    loader = DataLoader(
        source,
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
        if batch.error is not None:
            raise DataError(batch.error)
        yield batch


class SkipReport:
    """Counts the unreadable images that were skipped and warns without flooding the log."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._reported = 0

    def add(self, names: Iterable[str]) -> None:
        """Note skipped images; the very first one is warned about at once."""
        for name in names:
            if not self.names:
                logger.warning("Skipping an unreadable image (DATA.SKIP_CORRUPT): %s", name)
            self.names.add(name)

    def end_of_epoch(self) -> None:
        """One warning with the count so far, if it has grown since the last one."""
        if len(self.names) > self._reported:
            self._reported = len(self.names)
            logger.warning("%d unreadable images were skipped so far.", self._reported)


def _cycle(start: int, count: int) -> Iterator[int]:
    return ((start + step) % count for step in range(count))


def _unchanged(batch: Batch) -> Batch:
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
            _discard(ready)
            thread.join(timeout=0.01)


def _discard(ready: queue.Queue) -> None:
    try:
        while True:
            ready.get_nowait()
    except queue.Empty:
        pass
