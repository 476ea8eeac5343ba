"""An export as a config describes it: the network, the images, and every format."""

from __future__ import annotations

from dataclasses import replace

from fpnas.config import CfgNode
from fpnas.config.checks import check_value
from fpnas.data import ImageSet, preprocessing
from fpnas.data.preprocessing import set_preprocessing
from fpnas.errors import ConfigError
from fpnas.export.formats import get_formats
from fpnas.export.images import check_set, export_images
from fpnas.export.model import export_model
from fpnas.export.report import ExportReport
from fpnas.model_zoo import published_record
from fpnas.training import TrainedNet, load_network


def export_from_config(cfg: CfgNode) -> list[ExportReport]:
    """Export ``cfg.MODEL`` to ``cfg.OUTPUT_DIR`` as ``cfg.EXPORT`` says.

    Preprocessing and classes are those of the weights as far as these know them.
    """
    check_value(
        "MODEL.OUT_FEATURES", cfg.MODEL.OUT_FEATURES, not cfg.MODEL.OUT_FEATURES,
        "() for a classifier; a backbone is exported by fpnas.export.export_backbone, in Python",
    )  # fmt: skip
    test = check_set(cfg)
    net, source = _load(cfg, test)
    about = net.description
    cfg = cfg.clone()
    cfg.defrost()
    set_preprocessing(cfg, about.preprocessing)
    calibrate = any(entry.is_calibrated for entry in get_formats(cfg.EXPORT.FORMATS))
    images = export_images(cfg, test, about.classes, calibrate)
    described = {
        "classes": list(about.classes),
        "preprocessing": about.preprocessing.to_dict(),
    }
    return export_model(
        net.model,
        cfg.OUTPUT_DIR,
        cfg.EXPORT.FORMATS,
        input_size=cfg.DATA.INPUT_SIZE,
        images=images.check,
        labels=images.labels,
        metadata={**described, **source},
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
    if record is None:
        about.warn_of_other_preprocessing(
            ours, path, "the exported files have that of the training"
        )
        return net, {}
    about.warn_of_other_preprocessing(ours, path, "the exported files have the config's")
    net = TrainedNet(net.model, replace(about, preprocessing=ours))
    return net, {"licence": record.licence, "source_sha256": record.sha256}
