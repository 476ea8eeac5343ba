"""An export as a config describes it: the network, the images, and every format."""

from __future__ import annotations

from typing import NamedTuple

from fpnas.config import CfgNode
from fpnas.config.checks import check_value
from fpnas.data import ImageSet, Preprocessing, preprocessing
from fpnas.data.preprocessing import set_preprocessing
from fpnas.errors import ConfigError
from fpnas.export.formats import get_formats
from fpnas.export.images import check_set, export_images
from fpnas.export.model import export_model
from fpnas.export.report import ExportReport
from fpnas.model_zoo import published_record
from fpnas.modeling import SearchedNet, fresh_classifier
from fpnas.training import load_trained
from fpnas.training.artifact import Description
from fpnas.utils.checkpoint import load_weights, read_checkpoint


def export_from_config(cfg: CfgNode) -> list[ExportReport]:
    """Export ``cfg.MODEL`` to ``cfg.OUTPUT_DIR`` as ``cfg.EXPORT`` says.

    Preprocessing and classes are those of the weights as far as these know them.
    """
    check_value(
        "MODEL.OUT_FEATURES", cfg.MODEL.OUT_FEATURES, not cfg.MODEL.OUT_FEATURES,
        "() for a classifier; a backbone is exported by fpnas.export.export_backbone, in Python",
    )  # fmt: skip
    test = check_set(cfg)
    network = _load_network(cfg, test)
    cfg = cfg.clone()
    cfg.defrost()
    set_preprocessing(cfg, network.preprocessing)
    calibrate = any(entry.is_calibrated for entry in get_formats(cfg.EXPORT.FORMATS))
    images = export_images(cfg, test, network.classes, calibrate)
    described = {
        "classes": list(network.classes),
        "preprocessing": network.preprocessing.to_dict(),
    }
    return export_model(
        network.model,
        cfg.OUTPUT_DIR,
        cfg.EXPORT.FORMATS,
        input_size=cfg.DATA.INPUT_SIZE,
        images=images.check,
        labels=images.labels,
        metadata={**described, **network.source},
        batch_size=cfg.EXPORT.BATCH_SIZE,
        dynamic_batch=cfg.EXPORT.DYNAMIC_BATCH,
        rewrites=cfg.EXPORT.REWRITES,
        bake=network.preprocessing if cfg.EXPORT.BAKE_PREPROCESS else None,
        calibration=images.calibration,
        int8_method=cfg.EXPORT.INT8_METHOD,
        int8_x86_safe=cfg.EXPORT.INT8_X86_SAFE,
        int8_max_drop=cfg.EXPORT.INT8_MAX_DROP,
    )


# The network of a config --------------------------------------------------------------------------


class _Network(NamedTuple):
    """A network with what its files say of it; ``source`` is metadata about its origin."""

    model: SearchedNet
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    source: dict[str, str]


def _load_network(cfg: CfgNode, test: ImageSet | None) -> _Network:
    """The network of ``cfg.MODEL``; ``test`` names the classes of weights alone.

    Raises ConfigError if MODEL.NUM_CLASSES or the classes of ``test`` are not the network's,
    CheckpointError if weights and architecture do not belong together.
    """
    path = cfg.MODEL.WEIGHTS
    record = published_record(path)
    if record is not None:
        published = Description(record.build_arch(), record.preprocessing, record.class_names)
        published.warn_of_other_preprocessing(
            preprocessing(cfg), path, "the exported files have the config's"
        )
        model = _network(cfg)
        published.check_same_network(model.arch, path)
        source = {"licence": record.licence, "source_sha256": record.sha256}
        return _Network(model, record.class_names, preprocessing(cfg), source)
    description = Description.from_dict(read_checkpoint(path), path) if path else None
    if description is not None:
        model = _described_network(cfg, description)
        return _Network(model, description.classes, description.preprocessing, {})
    if test is None:
        raise ConfigError(
            f"DATA.ROOT is empty, and MODEL.WEIGHTS '{path}' does not name the network's classes: "
            "give the data set of its training."
        )
    model = _network(cfg, cfg.MODEL.NUM_CLASSES or len(test.classes))
    if model.arch.num_classes != len(test.classes):
        raise ConfigError(
            f"The network has {model.arch.num_classes} classes, the data set '{cfg.DATA.NAME}' has "
            f"{len(test.classes)}. The files are checked on its images: choose the data of the "
            "training."
        )
    return _Network(model, test.classes, preprocessing(cfg), {})


def _described_network(cfg: CfgNode, description: Description) -> SearchedNet:
    """The network of a training. Warns if the config has another preprocessing."""
    path, count = cfg.MODEL.WEIGHTS, len(description.classes)
    wanted = cfg.MODEL.NUM_CLASSES
    check_value(
        "MODEL.NUM_CLASSES", wanted, wanted in (0, count), f"{count}, the classes of '{path}', or 0"
    )
    description.warn_of_other_preprocessing(
        preprocessing(cfg), path, "the exported files have that of the training"
    )
    if not cfg.MODEL.ARCH:
        return load_trained(path).model
    model = _network(cfg, count)
    description.check_same_network(model.arch, path)
    return model


def _network(cfg: CfgNode, num_classes: int = 0) -> SearchedNet:
    """The network of ``cfg.MODEL``, whose weights must fit as they are; 0 classes: as it says."""
    if num_classes:
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.NUM_CLASSES = num_classes
    model = fresh_classifier(cfg)
    if cfg.MODEL.WEIGHTS:
        load_weights(model, cfg.MODEL.WEIGHTS)
    return model
