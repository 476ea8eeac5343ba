"""An export as a config describes it: the network, its images, and every format."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from fpnas.config import CfgNode
from fpnas.config.checks import check_value
from fpnas.data import (
    ImageFiles,
    ImageSet,
    TestLoader,
    find_dataset,
    match_classes,
    preprocessing,
)
from fpnas.data.decode import IMAGE_SUFFIXES
from fpnas.data.image_folder import image_paths
from fpnas.data.preprocessing import set_preprocessing
from fpnas.errors import ConfigError, DataError
from fpnas.export.formats import get_formats
from fpnas.export.model import export_model
from fpnas.export.report import ExportReport
from fpnas.model_zoo import published_record
from fpnas.training import TrainedNet, load_network

logger = logging.getLogger(__name__)


def export_from_config(cfg: CfgNode) -> list[ExportReport]:
    """Export ``cfg.MODEL`` to ``cfg.OUTPUT_DIR`` as ``cfg.EXPORT`` says.

    Preprocessing and classes are those of the weights as far as these know them.
    """
    check_value(
        "MODEL.OUT_FEATURES", cfg.MODEL.OUT_FEATURES, not cfg.MODEL.OUT_FEATURES,
        "() for a classifier; a backbone is exported by fpnas.export.export_backbone, in Python",
    )  # fmt: skip
    is_named = cfg.DATA.NAME != "image_folder" or cfg.DATA.ROOT
    test = find_dataset(cfg, "test") if is_named else None
    net, source = _load(cfg, test)
    about = net.description
    cfg = cfg.clone()
    cfg.defrost()
    set_preprocessing(cfg, about.preprocessing)
    calibrate = any(entry.is_calibrated for entry in get_formats(cfg.EXPORT.FORMATS))
    images = export_images(cfg, test, about.classes, calibrate)
    return export_model(
        net.model,
        cfg.OUTPUT_DIR,
        cfg.EXPORT.FORMATS,
        input_size=cfg.DATA.INPUT_SIZE,
        images=images.check,
        labels=images.labels,
        metadata={
            "classes": list(about.classes),
            "preprocessing": about.preprocessing.to_dict(),
            **source,
        },
        batch_size=cfg.EXPORT.BATCH_SIZE,
        dynamic_batch=cfg.EXPORT.DYNAMIC_BATCH,
        rewrites=cfg.EXPORT.REWRITES,
        bake=about.preprocessing if cfg.EXPORT.BAKE_PREPROCESS else None,
        calibration=images.calibration,
        int8_method=cfg.EXPORT.INT8_METHOD,
        int8_x86_safe=cfg.EXPORT.INT8_X86_SAFE,
        int8_max_drop=cfg.EXPORT.INT8_MAX_DROP,
    )


def _load(cfg: CfgNode, test: ImageSet | None) -> tuple[TrainedNet, dict[str, str]]:
    """The network of ``cfg.MODEL`` with what its files say of it, and metadata about its origin.

    ``test`` names the classes of weights alone. Raises ConfigError if there are not as many as the
    network has; as :func:`fpnas.training.load_network`.
    """
    path, ours = cfg.MODEL.WEIGHTS, preprocessing(cfg)
    net = load_network(cfg, None if test is None else test.classes)
    about, count = net.description, net.model.arch.num_classes
    if count != len(about.classes):
        raise ConfigError(
            f"The network has {count} classes, the data set '{cfg.DATA.NAME}' has "
            f"{len(about.classes)}. The files are checked on its images: choose the data of the "
            "training."
        )
    record = published_record(path)
    kept = "the config's" if record else "that of the training"
    about.warn_of_other_preprocessing(ours, path, f"the exported files have {kept}")
    if record is None:
        return net, {}
    net = TrainedNet(net.model, replace(about, preprocessing=ours))
    return net, {"licence": record.licence, "source_sha256": record.sha256}


class ExportImages(NamedTuple):
    """Preprocessed images, float32 ``[N, 3, S, S]``.

    Attributes:
        check: on which exported files are compared with the PyTorch model; N >= 2.
        labels: int64 ``[N]`` of ``check``; None if they are not known.
        calibration: that set the ranges of int8 activations; None if they were not asked for.
    """

    check: Tensor
    labels: Tensor | None
    calibration: Tensor | None


def export_images(
    cfg: CfgNode, test: ImageSet | None, classes: tuple[str, ...], calibrate: bool
) -> ExportImages:
    """As ``cfg.EXPORT`` and ``cfg.DATA`` say, for a network with these ``classes``.

    Files are checked on images of ``test`` and, to ``calibrate``, images of EXPORT.CALIBRATION are
    taken, or training images without it. Where the data set is missing (None) or has none of the
    network's classes, every second image of EXPORT.CALIBRATION is for the check. Where it has some
    of them, and others, its labels are left out with a warning.

    Unreadable images are treated as DATA.SKIP_CORRUPT says. Raises ConfigError on numbers of images
    that are too small, DataError where there are too few images.
    """
    parity, count = cfg.EXPORT.PARITY_IMAGES, cfg.EXPORT.CALIBRATION_IMAGES
    check_value("EXPORT.PARITY_IMAGES", parity, parity >= 2, "at least 2, to compare outputs")
    check_value("EXPORT.CALIBRATION_IMAGES", count, count >= 1, "at least 1")
    test, has_labels = _matched(test, cfg, classes)
    if test is not None:
        origin = f"the test images of '{cfg.DATA.NAME}'"
        calibration = None
        if calibrate:
            calibration = _folder_set(cfg) if cfg.EXPORT.CALIBRATION else find_dataset(cfg, "train")
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
