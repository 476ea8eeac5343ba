"""Export a trained network to ONNX, TorchScript, ExecuTorch and others.

Every file is compared with the PyTorch network on images and timed; the table at the end says what
came out, and how each file is run. Exit code 1 if a format failed.

  fpnas export --config-file out/train/config.yaml --weights out/train/model_final.pth
  fpnas export --model efficientnet_lite0 --formats onnx,onnx-int8 --calibration photos

The weights of a training know their architecture, preprocessing and classes, which count even where
the config says otherwise; --arch is needed for other weights only. With --model the config is that
of a published network. The files are checked on test images of the data set, or, without one of the
network's classes, on half of the --calibration images.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NamedTuple

from fpnas.cli.evaluate import published_config
from fpnas.cli.flags import add_config_arguments, check_weights_are_final, config_from_args
from fpnas.config.checks import check_value
from fpnas.errors import ConfigError, UserError

if TYPE_CHECKING:
    from fpnas.config import CfgNode
    from fpnas.data import ImageSet, Preprocessing
    from fpnas.export import ExportReport
    from fpnas.modeling import SearchedNet
    from fpnas.training.artifact import Description


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Short flags for the config keys that an export usually sets."""
    parser.add_argument("--model", metavar="NAME", help="published network, in place of a config")
    parser.add_argument("--arch", metavar="NAME|FILE", help="the same as MODEL.ARCH")
    parser.add_argument("--weights", metavar="FILE", help="the same as MODEL.WEIGHTS")
    parser.add_argument(
        "--formats", metavar="LIST", help="the same as EXPORT.FORMATS: onnx,onnx-int8,pt2"
    )
    parser.add_argument(
        "--calibration", metavar="DIR", help="the same as EXPORT.CALIBRATION: images for int8"
    )
    parser.add_argument(
        "--int8-max-drop", metavar="POINTS", help="the same as EXPORT.INT8_MAX_DROP"
    )
    parser.add_argument(
        "--bake-preprocess", action="store_true", help="sets EXPORT.BAKE_PREPROCESS"
    )
    parser.add_argument("--dynamic-batch", action="store_true", help="sets EXPORT.DYNAMIC_BATCH")
    parser.add_argument("--output-dir", metavar="DIR", help="the same as OUTPUT_DIR")
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Export and print the table."""
    cfg = _config(args)
    from fpnas.export import get_formats, table
    from fpnas.export.rewrites import PHONE, expand_rewrites
    from fpnas.utils.logger import setup_logger

    get_formats(cfg.EXPORT.FORMATS)  # an unknown name fails before any work
    expand_rewrites(cfg.EXPORT.REWRITES)
    if not cfg.MODEL.WEIGHTS:
        print("fpnas: warning: MODEL.WEIGHTS is empty; exporting random weights.", file=sys.stderr)
    setup_logger()
    reports = export_from_config(cfg)
    print(table(reports))
    if _would_suit_phones(cfg, reports):
        print(f"""EXPORT.REWRITES "('{PHONE}',)": graphs that NNAPI takes, and CoreML in float.""")
    return 0 if all(report.status == "ok" for report in reports) else 1


def _would_suit_phones(cfg: CfgNode, reports: list[ExportReport]) -> bool:
    """Whether accelerators refuse a file that they would take with the rewrites for phones."""
    from fpnas.export.rewrites import PHONE, expand_rewrites

    verdicts = {verdict for report in reports for verdict in report.accelerators.values()}
    # CoreML takes no 8-bit graph, however it is rewritten.
    is_refused = any(said != "yes" and "QuantizeLinear" not in said for said in verdicts)
    is_for_phones = expand_rewrites(cfg.EXPORT.REWRITES) == expand_rewrites((PHONE,))
    return is_refused and not is_for_phones and not cfg.EXPORT.DYNAMIC_BATCH


def export_from_config(cfg: CfgNode) -> list[ExportReport]:
    """Export ``cfg.MODEL`` to ``cfg.OUTPUT_DIR`` as ``cfg.EXPORT`` says.

    Preprocessing and classes are those of the weights as far as these know them.
    """
    from fpnas.data.preprocessing import set_preprocessing
    from fpnas.export import export_model, get_formats
    from fpnas.export.images import check_set, export_images

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


def _config(args: argparse.Namespace) -> CfgNode:
    """The frozen config: of ``--model`` or ``--config-file``, the flags, KEY VALUE."""
    overrides = {
        "MODEL.ARCH": args.arch,
        "MODEL.WEIGHTS": args.weights,
        "EXPORT.FORMATS": args.formats and repr(_names(args.formats)),
        "EXPORT.CALIBRATION": args.calibration,
        "EXPORT.INT8_MAX_DROP": args.int8_max_drop,
        "EXPORT.BAKE_PREPROCESS": "True" if args.bake_preprocess else None,
        "EXPORT.DYNAMIC_BATCH": "True" if args.dynamic_batch else None,
        "OUTPUT_DIR": args.output_dir,
    }
    overrides = {key: text for key, text in overrides.items() if text}
    if args.model is None:
        cfg = config_from_args(args, overrides)
        check_weights_are_final(args, cfg)
        return cfg
    clashing = [flag for flag in ("config_file", "arch", "weights") if getattr(args, flag)]
    if clashing:
        flag = clashing[0].replace("_", "-")
        raise UserError(f"Give --model or --{flag}, not both: a model brings its config.")
    return published_config(args, overrides)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


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
    from fpnas.data import preprocessing
    from fpnas.model_zoo import published_record
    from fpnas.training.artifact import Description
    from fpnas.utils.checkpoint import read_checkpoint

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
    from fpnas.data import preprocessing
    from fpnas.training import load_trained

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
    from fpnas.modeling import fresh_classifier
    from fpnas.utils.checkpoint import load_weights

    if num_classes:
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.NUM_CLASSES = num_classes
    model = fresh_classifier(cfg)
    if cfg.MODEL.WEIGHTS:
        load_weights(model, cfg.MODEL.WEIGHTS)
    return model
