"""What tells the images of one run from those of another, without decoding any.

Of an image file that is its path below DATA.ROOT, its size and its label; of images held in memory
a hash of pixels and labels; of a data set of one's own the names and labels that it gives.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fpnas.data.image_set import ImageSet
from fpnas.errors import some
from fpnas.utils.file_io import atomic_write

# Name of an image, and all else that is known of it: "3 1024" for label and bytes.
Line = tuple[str, str]

_SHOWN = 3
_CHUNK = 1024  # images held in memory that are copied at a time
_IN_MEMORY = "(pixels and labels held in memory)"


@dataclass(frozen=True)
class SplitPrint:
    """The images of a split.

    Attributes:
        count: of the images.
        sha256: of their lines, in their order: a run depends on it.
        packed: the lines as gzipped JSON, a twentieth of what they take as Python objects.
    """

    count: int
    sha256: str
    packed: bytes

    @classmethod
    def of(cls, count: int, lines: Iterable[Line]) -> SplitPrint:
        """Of ``count`` images with these ``lines``."""
        text = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
        packed = gzip.compress(text, 1, mtime=0)
        return cls(count, hashlib.sha256(text).hexdigest(), packed)

    def summary(self) -> dict[str, Any]:
        """Number and hash."""
        return {"images": self.count, "sha256": self.sha256}

    def lines(self) -> dict[str, str]:
        """Name -> what else is known of that image."""
        return dict(map(json.loads, gzip.decompress(self.packed).splitlines()))


@dataclass(frozen=True)
class Fingerprint:
    """Names of the classes, and the images of each split."""

    classes: tuple[str, ...]
    splits: Mapping[str, SplitPrint]

    def summary(self) -> dict[str, Any]:
        """Plain values, short enough for a YAML file."""
        splits = {name: split.summary() for name, split in self.splits.items()}
        return {"classes": list(self.classes), "splits": splits}

    def write(self, path: Path) -> None:
        """All lines, for :meth:`differences` to name images: JSON in gzip.

        The name of a split stands before its lines.
        """
        with atomic_write(path) as file:
            for name, split in self.splits.items():
                file.write(gzip.compress(json.dumps(name).encode() + b"\n", mtime=0))
                file.write(split.packed)

    def differences(self, then: Mapping[str, Any], file: Path) -> list[str]:
        """How the images differ from those of the summary ``then``; empty: they do not.

        ``file`` is what was written with ``then``; without it counts are compared alone.
        """
        if then == self.summary():
            return []
        found = []
        classes = tuple(then["classes"])
        if classes != self.classes:
            found.append(f"classes: {_names(classes)} then, {_names(self.classes)} now")
        stored = _read(file)
        for name in {**then["splits"], **self.splits}:
            before, split = then["splits"].get(name), self.splits.get(name)
            if before is None or split is None:
                found.append(f"{name} images: {'none then' if before is None else 'none now'}")
                continue
            if before == split.summary():
                continue
            text = f"{name} images: {before['images']} then, {split.count} now"
            known = stored.get(name)
            if known is not None and known.sha256 == before["sha256"]:
                text += f" ({_changes(known.lines(), split.lines())})"
            found.append(text)
        return found


def fingerprint(root: str, **splits: ImageSet) -> Fingerprint:
    """Of the ``splits`` by name, all of the same classes; names count from the folder ``root`` on.

    Raises DataError if a file has gone meanwhile.
    """
    classes = next(iter(splits.values())).classes
    return Fingerprint(classes, {name: _of(images, root) for name, images in splits.items()})


def files_print(root: str, paths: Sequence[str | Path], traits: Iterable[str]) -> SplitPrint:
    """Of a split of files, with what else is known of each.

    Names count from the folder ``root`` on where files lie below it, with "/" on every system.
    """
    folder = f"{Path(root).expanduser()}{os.sep}" if root else ""
    names = (str(path).removeprefix(folder).replace(os.sep, "/") for path in paths)
    return SplitPrint.of(len(paths), zip(names, traits, strict=True))


def _of(images: ImageSet, root: str) -> SplitPrint:
    if images.in_memory:
        return SplitPrint.of(len(images), [(_IN_MEMORY, _hash_pixels(images))])
    traits = (
        f"{label} {images.trait(index)}".rstrip()
        for index, label in enumerate(images.labels.tolist())
    )
    return files_print(root, [images.name(index) for index in range(len(images))], traits)


def _hash_pixels(images: ImageSet) -> str:
    digest = hashlib.sha256()
    for indices in torch.arange(len(images)).split(_CHUNK):
        pixels = images.gather(indices).contiguous()
        digest.update(str(list(pixels.shape)).encode())
        digest.update(pixels.numpy())
    digest.update(images.labels.numpy())
    return digest.hexdigest()


def _read(file: Path) -> dict[str, SplitPrint]:
    """The splits in a file of :meth:`Fingerprint.write`; none if it is missing or damaged."""
    lines: dict[str, list[Line]] = {}
    try:
        with gzip.open(file, "rt", encoding="utf-8") as stored:
            for entry in map(json.loads, stored):
                if isinstance(entry, str):
                    current = lines.setdefault(entry, [])
                else:
                    current.append(tuple(entry))
    except (OSError, EOFError, ValueError, zlib.error):
        return {}
    return {name: SplitPrint.of(len(found), found) for name, found in lines.items()}


def _changes(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    if then == now:
        return "the same in another order"
    kinds = {
        "missing": [name for name in then if name not in now],
        "added": [name for name in now if name not in then],
        "changed": [name for name in then if name in now and now[name] != then[name]],
    }
    return "; ".join(f"{kind}: {_names(names)}" for kind, names in kinds.items() if names)


def _names(names: Sequence[str]) -> str:
    return some(names, _SHOWN) + (f" ({len(names)})" if len(names) > _SHOWN else "")
