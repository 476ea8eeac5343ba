"""Images with boxes: what the readers return, and the batches of a training."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fpnas.data.decode import decode_image
from fpnas.data.seeding import derive_seed, generator_for
from fpnas.data.streaming import stream
from fpnas.errors import ConfigError, DataError

# As torchvision's detectors want it: boxes float32 [n, 4] (x1, y1, x2, y2), px, and labels int64
# [n] from 1; 0 is the background.
Target = dict[str, Tensor]
Transform = Callable[[Tensor, Target], tuple[Tensor, Target]]


@dataclass(frozen=True)
class Record:
    """An image file and its annotation.

    Attributes:
        file: of the image.
        boxes: float32 [n, 4] (x1, y1, x2, y2), px from the upper left corner of the image.
        labels: int64 [n], 1 for the first class.
        ignored: bool [n]; such boxes are not trained on, and finding them or not does not count.
    """

    file: Path
    boxes: Tensor
    labels: Tensor
    ignored: Tensor

    @classmethod
    def from_lists(
        cls, file: Path, boxes: list[list[float]], labels: list[int], ignored: list[bool]
    ) -> Record:
        """From plain lists, without the boxes that have no area."""
        corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        keep = (corners[:, 2:] > corners[:, :2]).all(dim=1)
        return cls(
            file,
            corners[keep],
            torch.tensor(labels, dtype=torch.int64)[keep],
            torch.tensor(ignored, dtype=torch.bool)[keep],
        )


@dataclass(frozen=True)
class DetectionSet:
    """Annotated images. ``classes[0]`` has the label 1."""

    records: tuple[Record, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.records)

    def image(self, index: int) -> Tensor:
        """uint8 [3, H, W] RGB. Raises DataError if the file cannot be read."""
        return decode_image(str(self.records[index].file))

    def target(self, index: int) -> Target:
        """What is trained on."""
        record = self.records[index]
        counts = ~record.ignored
        return {"boxes": record.boxes[counts], "labels": record.labels[counts]}


@dataclass(frozen=True)
class Batch:
    """What a worker hands over: images float32 [N, 3, S, S] with targets, or its error."""

    images: Tensor | None
    targets: list[Target]
    error: str | None = None


class _Source(Dataset):
    """Makes batches of (epoch, index) keys; each image is augmented with a seed of its own."""

    def __init__(self, data: DetectionSet, transform: Transform, seed: int) -> None:
        self._data = data
        self._transform = transform
        self._seed = seed

    def __len__(self) -> int:
        return len(self._data)

    def __getitems__(self, keys: list[tuple[int, int]]) -> Batch:
        samples = []
        with torch.random.fork_rng(devices=[]):  # with no workers this is the trainer's process
            try:
                for epoch, index in keys:
                    torch.default_generator.manual_seed(derive_seed(self._seed, epoch, index))
                    samples.append(
                        self._transform(self._data.image(index), self._data.target(index))
                    )
            except DataError as error:
                return Batch(None, [], str(error))
        images, targets = zip(*samples, strict=True)
        return Batch(torch.stack(images), list(targets))


class TrainBatches:
    """Endless shuffled batches, a pure function of seed and iteration.

    Args:
        data: the training images.
        transform: augments and resizes to the network's input.
        batch_size: images of a batch; an epoch leaves out the remainder.
        seed: of order and augmentation.
        num_workers: processes that read and augment; 0: the caller does.

    Raises ConfigError if there are fewer images than a batch has.
    """

    def __init__(
        self,
        data: DetectionSet,
        transform: Transform,
        batch_size: int,
        seed: int,
        num_workers: int,
    ) -> None:
        if len(data) < batch_size:
            raise ConfigError(
                f"SOLVER.BATCH_SIZE is {batch_size}; valid: 1 to {len(data)}, the training images."
            )
        self._source = _Source(data, transform, seed)
        self._batch_size = batch_size
        self._seed = seed
        self._num_workers = num_workers

    def __len__(self) -> int:
        """Iterations of an epoch."""
        return len(self._source) // self._batch_size

    def iterate(self, start_iteration: int = 0) -> Iterator[tuple[Tensor, list[Target]]]:
        """Images float32 [N, 3, S, S] and targets from ``start_iteration`` on, without end."""
        for batch in stream(self._source, self._keys(start_iteration), self._num_workers):
            yield batch.images, batch.targets

    def _keys(self, start_iteration: int) -> Iterator[list[tuple[int, int]]]:
        first_epoch, batch = divmod(start_iteration, len(self))
        for epoch in itertools.count(first_epoch):
            generator = generator_for(self._seed, "order", epoch)
            order = torch.randperm(len(self._source), generator=generator).tolist()
            for start in range(batch, len(self)):
                rows = order[start * self._batch_size : (start + 1) * self._batch_size]
                yield [(epoch, index) for index in rows]
            batch = 0
