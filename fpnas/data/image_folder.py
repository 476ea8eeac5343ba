"""image_folder: the user's own images, one folder a class."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path

import torch

from fpnas.config import CfgNode
from fpnas.data.choose import stratified_split
from fpnas.data.decode import IMAGE_SUFFIXES
from fpnas.data.image_set import ImageFiles, ImageSet
from fpnas.errors import DataError, some

logger = logging.getLogger(__name__)

# Endings of what lies beside images without being some: notes, labels, Thumbs.db, desktop.ini.
_NO_IMAGES = (
    *("", ".txt", ".md", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".html", ".pdf"),
    *(".db", ".ini", ".py", ".npy", ".pkl", ".zip", ".tar", ".gz"),
)
_LAYOUT = "Expected ROOT/train/CLASS/... and ROOT/val/CLASS/... (or test), one folder a class."


def image_folder(cfg: CfgNode, split: str) -> ImageSet:
    """Images in DATA.ROOT/train and DATA.ROOT/val (else DATA.ROOT/test), one folder a class.

    Images may lie in subfolders of their class folder. Classes are numbered in the alphabetical
    order of their folders. Hidden files and files that are no images by their ending are passed
    over, with a warning where they could be some (.heic). Without val and test, a stratified share
    DATA.HOLD_OUT of the training images, chosen by SEED, is held out.

    Raises DataError for a missing or empty folder, a class without images and for splits with
    different classes. Image files themselves are not opened here.
    """
    root = dataset_root(cfg)
    train = root / "train"
    if not train.is_dir():
        found = ", ".join(_class_names(root)[:5]) or "no folders"
        raise DataError(f"{root} has no folder train; found {found}. {_LAYOUT}")
    test = _test_folder(root)
    if test is None:
        return _hold_out(_list_images(train), cfg, split, train)
    _check_same_classes(train, test)
    return _list_images(train if split == "train" else test)


def dataset_root(cfg: CfgNode) -> Path:
    """The folder DATA.ROOT. Raises DataError if it is not set or does not exist."""
    if not cfg.DATA.ROOT:
        raise DataError(f"DATA.ROOT is empty; the data set '{cfg.DATA.NAME}' needs its folder.")
    root = Path(cfg.DATA.ROOT).expanduser()
    if not root.is_dir():
        kind = "is a file, not a folder" if root.exists() else "does not exist"
        raise DataError(f"The data folder {root} (DATA.ROOT) {kind}.")
    return root


def _test_folder(root: Path) -> Path | None:
    """val if there is one, since it is the split to look at while training; else test."""
    present = [root / name for name in ("val", "test") if (root / name).is_dir()]
    if len(present) == 2:
        logger.info("%s has both val and test: val is used for evaluation.", root)
    return present[0] if present else None


def _hold_out(images: ImageFiles, cfg: CfgNode, split: str, folder: Path) -> ImageSet:
    try:
        held_out, rest = stratified_split(images.labels, cfg.DATA.HOLD_OUT, cfg.SEED)
    except DataError as error:
        raise DataError(f"Holding out images of {folder} (DATA.HOLD_OUT): {error}") from None
    logger.info(
        "There is neither val nor test beside %s: %d of its %d images are held out for evaluation "
        "(DATA.HOLD_OUT %g).",
        *(folder, len(held_out), len(images), cfg.DATA.HOLD_OUT),
    )
    return images.subset(rest if split == "train" else held_out)


def _class_names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(
            entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")
        )


def _check_same_classes(train: Path, test: Path) -> None:
    expected, found = _class_names(train), _class_names(test)
    if found == expected:
        return
    missing = sorted(set(expected) - set(found))
    surplus = sorted(set(found) - set(expected))
    differences = [
        f"{len(names)} {what} ({some(names)})"
        for what, names in (("missing there", missing), ("only there", surplus))
        if names
    ]
    raise DataError(
        f"{test} must have the same class folders as {train}: {' and '.join(differences)}."
    )


def _list_images(folder: Path) -> ImageFiles:
    classes = _class_names(folder)
    if not classes:
        raise DataError(f"{folder} has no class folders. {_LAYOUT}")
    paths: list[str] = []
    labels: list[int] = []
    passed_over: Counter[str] = Counter()
    for label, name in enumerate(classes):
        files = _files(folder / name)
        found = [path for path in files if _is_image(path)]
        passed_over.update(Path(path).suffix.lower() for path in files if not _is_image(path))
        if not found:
            raise DataError(
                f"The class folder {folder / name} has no images. Remove the folder, or add files "
                f"that end in {', '.join(IMAGE_SUFFIXES)}."
            )
        paths += found
        labels += [label] * len(found)
    _warn_of_passed_over(passed_over, folder)
    return ImageFiles(paths, torch.tensor(labels), classes)


def _warn_of_passed_over(suffixes: Counter[str], folder: Path) -> None:
    """Name the endings that could be those of images."""
    suspects = sorted(suffix for suffix in suffixes if suffix not in _NO_IMAGES)
    if suspects:
        logger.warning(
            "Files below %s that are not read: %s. If they are images, convert them to .png or "
            ".jpg.",
            *(folder, ", ".join(f"{suffixes[suffix]} {suffix}" for suffix in suspects)),
        )


def image_paths(folder: Path) -> list[str]:
    """All images below ``folder``, sorted, so that their order is the same on every machine."""
    return [path for path in _files(folder) if _is_image(path)]


def _is_image(path: str) -> bool:
    return path.lower().endswith(IMAGE_SUFFIXES)


def _files(folder: Path) -> list[str]:
    """All files below ``folder`` but hidden ones, sorted."""
    paths = []
    visited: set[str] = set()
    for parent, subfolders, files in os.walk(folder, followlinks=True):
        # A link to a folder further up would otherwise be followed for ever.
        real = os.path.realpath(parent)
        if real in visited:
            subfolders.clear()
            continue
        visited.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        paths += [os.path.join(parent, name) for name in files if not name.startswith(".")]
    return sorted(paths)
