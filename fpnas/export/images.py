"""The images of an export: some that calibrate, others on which the files are checked."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fpnas.config import CfgNode
from fpnas.data import ImageSet, TestLoader, build_dataset, match_classes, preprocessing
from fpnas.data.decode import IMAGE_SUFFIXES, decode_image
from fpnas.data.image_folder import image_paths
from fpnas.errors import DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportImages:
    """Preprocessed images, float32 ``[N, 3, S, S]``.

    Attributes:
        check: on which exported files are compared with the PyTorch model.
        labels: int64 ``[N]`` of ``check``; None if they are not known.
        calibration: that set the ranges of int8 activations; None if there are none.
    """

    check: Tensor
    labels: Tensor | None
    calibration: Tensor | None


def check_set(cfg: CfgNode) -> ImageSet | None:
    """The test images of ``cfg.DATA``; None if there is no data set, an image_folder without ROOT.

    Raises as :func:`fpnas.data.build_dataset`.
    """
    is_missing = cfg.DATA.NAME == "image_folder" and not cfg.DATA.ROOT
    return None if is_missing else build_dataset(cfg, "test")


def export_images(cfg: CfgNode, test: ImageSet | None, classes: tuple[str, ...]) -> ExportImages:
    """As ``cfg.EXPORT`` and ``cfg.DATA`` say, for a network with these ``classes``.

    Files are checked on images of ``test`` (see :func:`check_set`) and calibrated on images of
    EXPORT.CALIBRATION, or on training images without it. Where the data set is missing or has none
    of the network's classes, every second image of EXPORT.CALIBRATION is for the check. Where it
    has some of them, and others, its labels are left out with a warning.

    Raises DataError where there are no images.
    """
    folder = cfg.EXPORT.CALIBRATION
    test, has_labels = _matched(test, cfg, classes)
    if test is None:
        images = _folder_images(cfg, 2 * max(cfg.EXPORT.PARITY_IMAGES, _wanted(cfg)))
        check, calibration = images[1::2], images[0::2]
        return ExportImages(check[: cfg.EXPORT.PARITY_IMAGES], None, calibration[: _wanted(cfg)])
    check, labels = _sample(test, cfg, cfg.EXPORT.PARITY_IMAGES)
    if folder:
        calibration = _folder_images(cfg, _wanted(cfg))
    else:
        calibration, _ = _sample(build_dataset(cfg, "train"), cfg, _wanted(cfg))
    return ExportImages(check, labels if has_labels else None, calibration)


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


def _wanted(cfg: CfgNode) -> int:
    return cfg.EXPORT.CALIBRATION_IMAGES


def _sample(images: ImageSet, cfg: CfgNode, count: int) -> tuple[Tensor, Tensor]:
    """``count`` images, or all: folders list them class by class, so spread over all of them."""
    spread = torch.linspace(0, len(images) - 1, min(count, len(images))).long()
    batches = TestLoader(images.subset(spread), cfg, cfg.TEST.BATCH_SIZE)
    chosen, labels = zip(*batches, strict=True)
    return torch.cat(chosen), torch.cat(labels)


def _folder_images(cfg: CfgNode, count: int) -> Tensor:
    """Up to ``count`` images from anywhere below EXPORT.CALIBRATION, evenly spread."""
    folder = Path(cfg.EXPORT.CALIBRATION).expanduser()
    files = image_paths(folder)
    if len(files) < 2:
        raise DataError(
            f"The calibration folder '{folder}' needs images ({', '.join(IMAGE_SUFFIXES)}), "
            f"found {len(files)}."
        )
    spread = torch.linspace(0, len(files) - 1, min(count, len(files))).long().tolist()
    prepare = preprocessing(cfg)
    return torch.stack([prepare(decode_image(files[i])) for i in spread])
