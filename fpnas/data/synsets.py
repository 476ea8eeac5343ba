"""The synset ids of ImageNet's 1,000 classes (ILSVRC 2012)."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

import yaml

_SYNSET = re.compile(r"n\d{8}")


def is_synset(name: str) -> bool:
    """Whether ``name`` looks like a synset id, such as ``n01440764``."""
    return _SYNSET.fullmatch(name) is not None


@cache
def synset_index() -> dict[str, int]:
    """Synset id -> class index, 0 to 999: the ids in alphabetical order."""
    text = resources.files("fpnas.data").joinpath("imagenet_synsets.yaml").read_text("utf-8")
    return {synset: number for number, synset in enumerate(yaml.safe_load(text).split())}
