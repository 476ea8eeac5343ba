"""The images of an export: some that calibrate, others on which the files are checked."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fpnas.config import CfgNode
from fpnas.config.checks import check_value
from fpnas.data import ImageFiles, ImageSet, TestLoader, find_dataset, match_classes
from fpnas.data.decode import IMAGE_SUFFIXES
from fpnas.data.image_folder import image_paths
from fpnas.errors import DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportImages:
    """Preprocessed images, float32 ``[N, 3, S, S]``.

    Attributes:
        check: on which exported files are compared with the PyTorch model; N >= 2.
        labels: int64 ``[N]`` of ``check``; None if they are not known.
        calibration: that set the ranges of int8 activations; None if they were not asked for.
    """

    check: Tensor
    labels: Tensor | None
    calibration: Tensor | None


def check_set(cfg: CfgNode) -> ImageSet | None:
    """The test images of ``cfg.DATA``; None if there is no data set, an image_folder without ROOT.

    Raises as :func:`fpnas.data.find_dataset`, and decodes no files either.
    """
    is_missing = cfg.DATA.NAME == "image_folder" and not cfg.DATA.ROOT
    return None if is_missing else find_dataset(cfg, "test")


def export_images(
    cfg: CfgNode, test: ImageSet | None, classes: tuple[str, ...], calibrate: bool
) -> ExportImages:
    """As ``cfg.EXPORT`` and ``cfg.DATA`` say, for a network with these ``classes``.

    Files are checked on images of ``test`` (see :func:`check_set`) and, to ``calibrate``, images of
    EXPORT.CALIBRATION are taken, or training images without it. Where the data set is missing or
    has none of the network's classes, every second image of EXPORT.CALIBRATION is for the check.
    Where it has some of them, and others, its labels are left out with a warning.

    Unreadable images are treated as DATA.SKIP_CORRUPT says. Raises ConfigError on numbers of images
    that are too small, DataError where there are too few images.
    """
    parity, count = cfg.EXPORT.PARITY_IMAGES, cfg.EXPORT.CALIBRATION_IMAGES
    check_value("EXPORT.PARITY_IMAGES", parity, parity >= 2, "at least 2, to compare outputs")
    check_value("EXPORT.CALIBRATION_IMAGES", count, count >= 1, "at least 1")
    test, has_labels = _matched(test, cfg, classes)
    if test is not None:
        origin = f"the test images of '{cfg.DATA.NAME}'"
        calibration = _calibration_set(cfg) if calibrate else None
    else:
        origin = f"every second image of '{cfg.EXPORT.CALIBRATION}'"
        images = _folder_set(cfg)
        test = images.subset(torch.arange(1, len(images), 2))
        calibration = images.subset(torch.arange(0, len(images), 2)) if calibrate else None
    check, labels = _sample(test, cfg, parity)
    if len(check) < 2:
        raise DataError(
            f"An export needs 2 images to compare outputs; of {origin} only {len(check)} can be "
            "read."
        )
    return ExportImages(
        check,
        labels if has_labels else None,
        None if calibration is None else _sample(calibration, cfg, count)[0],
    )


def _matched(
    test: ImageSet | None, cfg: CfgNode, classes: tuple[str, ...]
) -> tuple[ImageSet | None, bool]:
    """The images to check on, and whether their labels are the network's. None: the folder's.

    Raises DataError if there is no folder either.
    """
    reason = "DATA.ROOT is empty"
    if test is not None:
        try:
            return match_classes(test, classes), True
        except DataError as error:
            reason = f"DATA.NAME is '{cfg.DATA.NAME}': {str(error).rstrip('.')}"
        if not set(test.classes).isdisjoint(classes):
            logger.warning("%s. The files are checked on its images without their labels.", reason)
            return test, False
    if not cfg.EXPORT.CALIBRATION:
        raise DataError(
            f"{reason}. An export needs images to check its files on: DATA.NAME and DATA.ROOT of "
            "the network's data set, or --calibration, a folder with any images of the kind."
        )
    logger.info("%s. The files are checked on half of the images of --calibration.", reason)
    return None, False


def _calibration_set(cfg: CfgNode) -> ImageSet:
    if cfg.EXPORT.CALIBRATION:
        return _folder_set(cfg)
    return find_dataset(cfg, "train")


def _folder_set(cfg: CfgNode) -> ImageSet:
    """All images anywhere below EXPORT.CALIBRATION, as one class."""
    folder = Path(cfg.EXPORT.CALIBRATION).expanduser()
    files = image_paths(folder)
    if len(files) < 2:
        raise DataError(
            f"The calibration folder '{folder}' needs images ({', '.join(IMAGE_SUFFIXES)}), "
            f"found {len(files)}."
        )
    return ImageFiles(files, [0] * len(files), ["unknown"])


def _sample(images: ImageSet, cfg: CfgNode, count: int) -> tuple[Tensor, Tensor]:
    """``count`` images, or all: folders list them class by class, so spread over all of them.

    Raises DataError if none of them is readable.
    """
    spread = torch.linspace(0, len(images) - 1, min(count, len(images))).long()
    batches = list(TestLoader(images.subset(spread), cfg, cfg.TEST.BATCH_SIZE))
    if not batches:
        raise DataError(f"None of {len(spread)} images is readable, {images.name(0)} for one.")
    chosen, labels = zip(*batches, strict=True)
    return torch.cat(chosen), torch.cat(labels)
