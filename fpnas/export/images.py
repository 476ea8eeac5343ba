"""The images of an export: some that calibrate, others on which the files are checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fpnas.config import CfgNode
from fpnas.data import ImageSet, TestLoader, build_dataset, match_classes, preprocessing
from fpnas.data.decode import IMAGE_SUFFIXES, decode_image
from fpnas.data.image_folder import image_paths
from fpnas.errors import DataError


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


def export_images(cfg: CfgNode, classes: tuple[str, ...]) -> ExportImages:
    """As ``cfg.EXPORT`` and ``cfg.DATA`` say, for a network with these ``classes``.

    Files are checked on test images of the data set and calibrated on images of EXPORT.CALIBRATION,
    or on training images without it. Without a data set (DATA.ROOT empty), every second image of
    EXPORT.CALIBRATION is for the check. Raises DataError where there are no images.
    """
    folder = cfg.EXPORT.CALIBRATION
    if cfg.DATA.NAME == "image_folder" and not cfg.DATA.ROOT:
        if not folder:
            raise DataError(
                "An export needs images to check its files on: DATA.ROOT, the data set's folder, "
                "or --calibration, a folder with any images of the kind."
            )
        images = _folder_images(cfg, 2 * max(cfg.EXPORT.PARITY_IMAGES, _wanted(cfg)))
        check, calibration = images[1::2], images[0::2]
        return ExportImages(check[: cfg.EXPORT.PARITY_IMAGES], None, calibration[: _wanted(cfg)])
    test = match_classes(build_dataset(cfg, "test"), classes)
    check, labels = _sample(test, cfg, cfg.EXPORT.PARITY_IMAGES)
    if folder:
        calibration = _folder_images(cfg, _wanted(cfg))
    else:
        calibration, _ = _sample(build_dataset(cfg, "train"), cfg, _wanted(cfg))
    return ExportImages(check, labels, calibration)


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
