"""Export a trained network to ONNX, TorchScript and others.

Every file is compared with the PyTorch network on test images and timed; the table at the end says
what came out. The weights of a training know their architecture; --arch is needed for others only.
The ONNX graph is rewritten for speed without changing what it computes: EXPORT.REWRITES names the
rewrites, EXPORT.REWRITES "()" switches them off. Exit code 1 if a format failed.

  fpnas export --config-file out/train/config.yaml --weights out/train/model_final.pth
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from fpnas.config.flags import add_config_arguments, config_from_args
from fpnas.errors import ConfigError

if TYPE_CHECKING:
    from fpnas.config import CfgNode
    from fpnas.export import ExportReport
    from fpnas.modeling import SearchedNet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Short flags for the config keys that an export usually sets."""
    parser.add_argument("--arch", metavar="NAME|FILE", help="the same as MODEL.ARCH")
    parser.add_argument("--weights", metavar="FILE", help="the same as MODEL.WEIGHTS")
    parser.add_argument(
        "--formats", metavar="LIST", help="the same as EXPORT.FORMATS: onnx,torchscript"
    )
    parser.add_argument("--output-dir", metavar="DIR", help="the same as OUTPUT_DIR")
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Export and print the table."""
    overrides = {
        "MODEL.ARCH": args.arch,
        "MODEL.WEIGHTS": args.weights,
        "EXPORT.FORMATS": args.formats and repr(tuple(args.formats.split(","))),
        "OUTPUT_DIR": args.output_dir,
    }
    cfg = config_from_args(args, {key: text for key, text in overrides.items() if text})
    from fpnas.export import get_formats, table
    from fpnas.export.rewrites import expand_rewrites
    from fpnas.utils.logger import setup_logger

    get_formats(cfg.EXPORT.FORMATS)  # an unknown name fails before any work
    expand_rewrites(cfg.EXPORT.REWRITES)
    if not cfg.MODEL.WEIGHTS:
        print("fpnas: warning: MODEL.WEIGHTS is empty; exporting random weights.", file=sys.stderr)
    setup_logger()
    reports = export_from_config(cfg)
    print(table(reports))
    return 0 if all(report.status == "ok" for report in reports) else 1


def export_from_config(cfg: CfgNode) -> list[ExportReport]:
    """Export ``cfg.MODEL`` to ``cfg.OUTPUT_DIR`` in the formats of ``cfg.EXPORT``."""
    import torch

    from fpnas.data import TestLoader, build_dataset, preprocessing
    from fpnas.export import export_model

    test_set = build_dataset(cfg, "test")
    model = _load_model(cfg, len(test_set.classes))
    # Folders list their images class by class: spread the sample over all of them.
    count = min(cfg.EXPORT.PARITY_IMAGES, len(test_set))
    sample = test_set.subset(torch.linspace(0, len(test_set) - 1, count).long())
    images, labels = zip(*TestLoader(sample, cfg, cfg.TEST.BATCH_SIZE), strict=True)
    return export_model(
        model,
        cfg.OUTPUT_DIR,
        cfg.EXPORT.FORMATS,
        input_size=cfg.DATA.INPUT_SIZE,
        images=torch.cat(images),
        labels=torch.cat(labels),
        metadata={
            "classes": list(test_set.classes),
            "preprocessing": preprocessing(cfg).to_dict(),
        },
        batch_size=cfg.EXPORT.BATCH_SIZE,
        rewrites=cfg.EXPORT.REWRITES,
    )


def _load_model(cfg: CfgNode, num_classes: int) -> SearchedNet:
    """The network of ``cfg.MODEL``. Raises ConfigError if it has not ``num_classes`` outputs."""
    from fpnas.modeling import build_model
    from fpnas.training import load_trained

    if cfg.MODEL.WEIGHTS and not cfg.MODEL.ARCH:
        model = load_trained(cfg.MODEL.WEIGHTS).model
    else:
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.NUM_CLASSES = cfg.MODEL.NUM_CLASSES or num_classes
        model = build_model(cfg)
    if model.arch.num_classes != num_classes:
        raise ConfigError(
            f"The network has {model.arch.num_classes} classes, the data set '{cfg.DATA.NAME}' has "
            f"{num_classes}. The files are checked on its images: choose the data of the training."
        )
    return model
