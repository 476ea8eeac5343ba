"""TrainLoader and TestLoader: from an ImageSet to batches for the network."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from fpnas.config import CfgNode
from fpnas.data.augment import Augmentation, BatchTransform, image_transform
from fpnas.data.decode import naming_remedy, try_decode
from fpnas.data.image_set import ImageSet
from fpnas.data.preprocessing import preprocessing
from fpnas.data.streaming import Keys, prefetch, seed_sample, shuffled, stream
from fpnas.errors import ConfigError, DataError
from fpnas.utils.rng import generator_for

logger = logging.getLogger(__name__)


class TrainLoader:
    """Endless shuffled, augmented batches; a pure function of the seed and the iteration.

    The order of an epoch follows from (seed, epoch), the augmentation from (seed, epoch, batch) for
    images in memory and from (seed, epoch, index) for others. Thus training that starts again at
    any iteration sees exactly the batches that it would have seen, for any number of workers, and
    several ranks together see exactly the batches of one. torch's global generator is not used.

    Images held in memory are augmented in whole batches by one background thread, all others (and
    all with a policy such as AutoAugment or with colour) image by image by DATA.NUM_WORKERS
    processes.

    Args:
        image_set: the training images.
        cfg: the DATA keys are read.
        batch_size: images of one iteration over all ranks; the last, smaller batch of an epoch is
            left out.
        seed: of order and augmentation.
        rank, world_size: this process takes batch_size / world_size images of each batch.
        augment: False for the preprocessing of test images.

    Raises DataError if there are fewer images than batch_size, ConfigError if it cannot be divided
    among the ranks.
    """

    def __init__(
        self,
        image_set: ImageSet,
        cfg: CfgNode,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        augment: bool = True,
    ) -> None:
        if batch_size < 1 or batch_size % world_size:
            raise ConfigError(
                f"A batch of {batch_size} images cannot be divided among {world_size} processes "
                "(SOLVER.BATCH_SIZE, SEARCH.VAL_BATCH_SIZE)."
            )
        if len(image_set) < batch_size:
            raise DataError(
                f"There are {len(image_set)} training images, too few for a batch of {batch_size}. "
                "Add images or lower SOLVER.BATCH_SIZE."
            )
        self.image_set = image_set
        self.batch_size = batch_size
        self.seed = seed
        share = batch_size // world_size
        self._rows = slice(rank * share, (rank + 1) * share)
        self._num_workers = cfg.DATA.NUM_WORKERS
        self._augmentation = Augmentation.from_cfg(cfg) if augment else Augmentation()
        self._preprocessing = preprocessing(cfg)
        self._unreadable = "replace" if cfg.DATA.SKIP_CORRUPT else "raise"
        self._report = SkipReport()

    def __len__(self) -> int:
        """Iterations of an epoch."""
        return len(self.image_set) // self.batch_size

    def iterate(self, start_iteration: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches ``start_iteration``, ``start_iteration`` + 1, ... without end.

        Yields:
            images: float32 [batch_size / world_size, 3, S, S], normalised.
            labels: int64 [batch_size / world_size].

        Raises DataError, which names the file, when an image turns out to be unreadable; with
        DATA.SKIP_CORRUPT the next readable image takes its place.
        """
        if self.image_set.in_memory and not self._augmentation.needs_single_images:
            return prefetch(self._make_batches(start_iteration))
        return self._stream_batches(start_iteration)

    def _make_batches(self, start_iteration: int) -> Iterator[tuple[Tensor, Tensor]]:
        transform = BatchTransform(self._augmentation, self._preprocessing)
        for epoch, batch, indices in self._order(start_iteration):
            indices = indices[self._rows]
            generator = generator_for(self.seed, "augment", epoch, batch)
            images = self.image_set.gather(indices)
            images = transform(images, self._rows, self.batch_size, generator)
            yield images, self.image_set.labels[indices]

    def _stream_batches(self, start_iteration: int) -> Iterator[tuple[Tensor, Tensor]]:
        transform = image_transform(self._augmentation, self._preprocessing)
        make = ImageReader(self.image_set, transform, self.seed, self._unreadable)
        keys = (
            [(epoch, index) for index in indices[self._rows].tolist()]
            for epoch, _, indices in self._order(start_iteration)
        )
        batches = stream(make, keys, self._num_workers)
        for iteration, batch in enumerate(batches, start_iteration + 1):
            self._report.add(batch.skipped)
            if iteration % len(self) == 0:
                self._report.end_of_epoch()
            yield batch.images, batch.labels

    def _order(self, start_iteration: int) -> Iterator[tuple[int, int, Tensor]]:
        return shuffled(len(self.image_set), self.batch_size, self.seed, start_iteration)


class TestLoader:
    """Every image once, in order, preprocessed without any random choice.

    Args:
        image_set: the test images.
        cfg: the DATA keys are read.
        batch_size: images of a batch in this process.
        rank, world_size: this process takes every ``world_size``-th image, from ``rank`` on.
    """

    __test__ = False  # pytest: this is no test class

    def __init__(
        self,
        image_set: ImageSet,
        cfg: CfgNode,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"TEST.BATCH_SIZE is {batch_size}; valid: at least 1.")
        self.image_set = image_set
        self.batch_size = batch_size
        self._indices = torch.arange(rank, len(image_set), world_size)
        self._num_workers = cfg.DATA.NUM_WORKERS
        self._preprocessing = preprocessing(cfg)
        self._unreadable = "drop" if cfg.DATA.SKIP_CORRUPT else "raise"
        self._report = SkipReport()

    def __len__(self) -> int:
        """Batches."""
        return -(-len(self._indices) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields images float32 [n, 3, S, S] and labels int64 [n], n <= batch_size.

        Raises DataError, which names the file, when an image turns out to be unreadable; with
        DATA.SKIP_CORRUPT it is left out of its batch.
        """
        if self.image_set.in_memory:
            return prefetch(self._make_batches())
        return self._stream_batches()

    def _make_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        for indices in self._indices.split(self.batch_size):
            images = self._preprocessing(self.image_set.gather(indices))
            yield images, self.image_set.labels[indices]

    def _stream_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        make = ImageReader(self.image_set, self._preprocessing, 0, self._unreadable)
        keys = [
            [(0, index) for index in indices.tolist()]
            for indices in self._indices.split(self.batch_size)
        ]
        for batch in stream(make, keys, self._num_workers):
            self._report.add(batch.skipped)
            if batch.images is not None:
                yield batch.images, batch.labels
        self._report.end_of_epoch()


class _Batch(NamedTuple):
    images: Tensor | None  # None: no image of it is readable
    labels: Tensor
    skipped: list[str]


class ImageReader:
    """Makes batches for lists of (epoch, index), image by image.

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

    def __call__(self, keys: Keys) -> _Batch:
        skipped: list[str] = []
        images, chosen = [], []
        for epoch, index in keys:
            found = self._read(index, skipped)
            if found is not None:
                chosen.append(found[0])
                seed_sample(self.seed, epoch, index)
                images.append(self.transform(found[1]))
        labels = self.image_set.labels[torch.tensor(chosen, dtype=torch.long)]
        return _Batch(torch.stack(images) if images else None, labels, skipped)

    def _read(self, index: int, skipped: list[str]) -> tuple[int, Tensor] | None:
        """The index and pixels of image ``index`` or of its replacement; None to leave it out."""
        count = len(self.image_set)
        for step in range(count):
            candidate = (index + step) % count
            image = try_decode(self.image_set.image, candidate)
            if isinstance(image, Tensor):
                return candidate, image
            if self.unreadable == "raise":
                raise naming_remedy(image)
            skipped.append(self.image_set.name(candidate))
            if self.unreadable == "drop":
                return None
        raise DataError(f"None of {count} images is readable, {skipped[0]} for one.")


class SkipReport:
    """Counts the unreadable images that were skipped and warns without flooding the log."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._reported = 0

    def add(self, names: Iterable[str]) -> None:
        """Note skipped images; the very first one is warned about at once."""
        for name in names:
            if not self._names:
                logger.warning("Skipping an unreadable image (DATA.SKIP_CORRUPT): %s", name)
            self._names.add(name)

    def end_of_epoch(self) -> None:
        """One warning with the count so far, if it has grown since the last one."""
        if len(self._names) > self._reported:
            self._reported = len(self._names)
            logger.warning("%d unreadable images were skipped so far.", self._reported)
