"""Numbers the classes of a data set as a trained network does, by their names."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources

import torch
import yaml

from fpnas.data.image_set import ImageSet
from fpnas.errors import DataError

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
            f"{len(classes)} of the network: {_some(unknown)}. The network knows {_some(classes)}."
        )
    if len(set(numbers)) != len(numbers):
        raise DataError(f"Two classes of the data have the same name: {_some(images.classes)}.")
    if len(numbers) < len(classes):
        logger.info("The data has %d of the network's %d classes", len(numbers), len(classes))
    return images.relabel(torch.tensor(numbers)[images.labels], classes)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().lower()


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def is_synset(name: str) -> bool:
    """Whether ``name`` looks like a synset id, such as ``n01440764``."""
    return _SYNSET.fullmatch(name) is not None


@cache
def synset_index() -> dict[str, int]:
    """Synset id -> class index, 0 to 999: the ids in alphabetical order."""
    text = resources.files("fpnas.data").joinpath("imagenet_synsets.yaml").read_text("utf-8")
    return {synset: number for number, synset in enumerate(yaml.safe_load(text).split())}
