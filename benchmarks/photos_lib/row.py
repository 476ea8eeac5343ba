"""What a row of the table is, and what it is given to make its network from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from fpnas.config import CfgNode
from fpnas.data import TestLoader, find_splits
from fpnas.errors import CheckpointError
from fpnas.modeling import SearchedNet
from fpnas.training.artifact import load_trained
from photos_lib.training import multiply_adds, train_loader


class RowFailed(Exception):
    """What a library said when it could not make the network of a row."""


def load_network(file: str | Path, classes: Sequence[str]) -> SearchedNet:
    """The network in a file that describes itself. CheckpointError if its classes are others."""
    trained = load_trained(file)
    if tuple(trained.description.classes) != tuple(classes):
        raise CheckpointError(f"'{file}' was trained on other classes than those of the photos.")
    return trained.model


@dataclass(frozen=True)
class Given:
    """What the network of a row may be made from.

    Attributes:
        cfg: of the training that follows, with its length.
        held_out_cfg: of the photos that the whole network of stage "choose" was not trained on.
        percent: of the whole network's multiply-adds, which the network may have.
        teacher: the whole network, fine-tuned on the training photos; None for row "full".
        decisions: folder of the row, the same in both stages. What is decided on held-out photos
            is decided in stage "choose"; the networks of stage "final" only follow it.
    """

    cfg: CfgNode
    held_out_cfg: CfgNode
    percent: int
    teacher: SearchedNet | None
    decisions: Path

    @property
    def size(self) -> int:
        """Side of the photos, px."""
        return self.cfg.DATA.INPUT_SIZE

    @property
    def budget(self) -> float:
        """Multiply-adds that the network may have."""
        return self.percent / 100 * multiply_adds(self.teacher, self.size)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the network's outputs."""
        return tuple(find_splits(self.cfg)[0].classes)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented batches of the training photos, without an end."""
        images, _ = find_splits(self.cfg)
        return train_loader(images, self.cfg).iterate(0)

    def held_out(self, count: int | None = None) -> list[tuple[Tensor, Tensor]]:
        """Batches of ``count`` held-out photos at random; None: of all."""
        cfg = self.held_out_cfg
        _, images = find_splits(cfg)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        return list(TestLoader(images.subset(order[:count]), cfg, cfg.TEST.BATCH_SIZE))


CUT, PUBLISHED, FRESH = "cut", "published", "fresh"
#: Makes the network of a row, with the weights to train from. May raise RowFailed.
Start = Callable[[Given], nn.Module]


@dataclass(frozen=True)
class Row:
    """A way to a network.

    Attributes:
        start: makes the network.
        percents: at which it exists; None: any.
        files: that it is made from, by percent; empty: from the teacher alone.
        weights: CUT from the teacher's, once for all trainings; PUBLISHED, with a classifier drawn
            by the seed of each; FRESH, all drawn by it.
    """

    start: Start
    percents: Sequence[int] | None = None
    files: Mapping[int, str] = field(default_factory=dict)
    weights: str = CUT
