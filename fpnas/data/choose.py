"""Choosing among labelled images: seeded splits, random classes, classes by their names."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources

import torch
import yaml
from torch import Tensor

from fpnas.data.image_set import ImageSet
from fpnas.errors import ConfigError, DataError, some
from fpnas.utils.rng import generator_for


def stratified_split(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split images at random so that both parts have the same mix of classes.

    The first part holds round(fraction * N) images, and of a class with n images fraction * n,
    rounded up or down.

    Args:
        labels: class indices [N].
        fraction: share of the first part, between 0 and 1 (both excluded).
        seed: the split is a pure function of it and of the labels.

    Returns:
        Ascending indices (int64) of the first and of the second part.

    Raises DataError if a part would be empty.
    """
    total = round(fraction * len(labels))
    if not 0 < total < len(labels):
        raise DataError(
            f"{len(labels)} images cannot be split into parts of {fraction:g} and "
            f"{1 - fraction:g}: one part would be empty."
        )
    generator = generator_for(seed, "split")
    shuffled = torch.randperm(len(labels), generator=generator)
    members = [shuffled[labels[shuffled] == label] for label in labels.unique().tolist()]
    quotas = torch.tensor([fraction * len(member) for member in members], dtype=torch.float64)
    counts = _round_to_sum(quotas, total)
    is_first = torch.zeros(len(labels), dtype=torch.bool)
    for member, count in zip(members, counts.tolist(), strict=True):
        is_first[member[:count]] = True
    return torch.nonzero(is_first).flatten(), torch.nonzero(~is_first).flatten()


def _round_to_sum(quotas: Tensor, total: int) -> Tensor:
    """Each quota rounded up or down so that the sum is ``total`` (largest remainders go up)."""
    # The tolerance keeps a quota such as 0.1 * 30 from being floored to 2.
    counts = torch.floor(quotas + 1e-9).long()
    remainders = quotas - counts
    upwards = remainders.argsort(descending=True, stable=True)[: total - int(counts.sum())]
    counts[upwards] += 1
    return counts


def choose_classes(image_set: ImageSet, count: int, seed: int) -> ImageSet:
    """The images of ``count`` classes chosen at random (the paper's ImageNet-100: 100 of 1,000).

    The choice depends on ``seed`` and on the number of classes only, so that training and test
    images agree. The chosen classes keep their order and are numbered anew from 0.

    Raises ConfigError if there are fewer classes, DataError if the chosen ones have no images.
    """
    available = len(image_set.classes)
    if not 1 <= count <= available:
        raise ConfigError(
            f"DATA.NUM_RANDOM_CLASSES is {count}, but the data set has {available} classes. "
            f"Valid: 1 to {available}, or 0 for all."
        )
    order = torch.randperm(available, generator=generator_for(seed, "classes"))
    chosen = order[:count].sort().values
    new_label = torch.full((available,), -1)
    new_label[chosen] = torch.arange(count)
    labels = new_label[image_set.labels]
    kept = torch.nonzero(labels >= 0).flatten()
    if not len(kept):
        raise DataError("The classes chosen by DATA.NUM_RANDOM_CLASSES have no images.")
    names = [image_set.classes[label] for label in chosen.tolist()]
    return image_set.subset(kept).relabel(labels[kept], names)


logger = logging.getLogger(__name__)

_IMAGENET_CLASSES = 1000
_SYNSET = re.compile(r"n\d{8}")


def match_classes(images: ImageSet, classes: Sequence[str]) -> ImageSet:
    """The same images, their labels counted in the order of ``classes``, the network's.

    A class of the data is found by its name; upper case, spaces, hyphens and underscores do not
    matter. The 1,000 classes of ImageNet are found by their synset ids (``n01440764``), too. The
    data may have some of the network's classes only.

    Raises DataError, which lists them, if the data has classes that the network does not know.
    """
    if tuple(images.classes) == tuple(classes):
        return images
    index = {_plain(name): number for number, name in enumerate(classes)}
    if len(classes) == _IMAGENET_CLASSES and all(map(is_synset, images.classes)):
        index = synset_index()
    numbers = [index.get(_plain(name)) for name in images.classes]
    unknown = [n for n, number in zip(images.classes, numbers, strict=True) if number is None]
    if unknown:
        raise DataError(
            f"{len(unknown)} of the {len(images.classes)} classes of the data are none of the "
            f"{len(classes)} of the network: {some(unknown)}. The network knows {some(classes)}."
        )
    if len(set(numbers)) != len(numbers):
        raise DataError(f"Two classes of the data have the same name: {some(images.classes)}.")
    if len(numbers) < len(classes):
        logger.info("The data has %d of the network's %d classes", len(numbers), len(classes))
    return images.relabel(torch.tensor(numbers)[images.labels], classes)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().lower()


def is_synset(name: str) -> bool:
    """Whether ``name`` looks like a synset id, such as ``n01440764``."""
    return _SYNSET.fullmatch(name) is not None


@cache
def synset_index() -> dict[str, int]:
    """Synset id -> class index, 0 to 999: the ids in alphabetical order."""
    text = resources.files("fpnas.data").joinpath("imagenet_synsets.yaml").read_text("utf-8")
    return {synset: number for number, synset in enumerate(yaml.safe_load(text).split())}
