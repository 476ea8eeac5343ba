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
from typing import TYPE_CHECKING

from fpnas.cli.evaluate import published_config
from fpnas.cli.flags import add_config_arguments, check_weights_are_final, config_from_args
from fpnas.errors import UserError

if TYPE_CHECKING:
    from fpnas.config import CfgNode
    from fpnas.export import ExportReport


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
    from fpnas.export.run import export_from_config
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


def _config(args: argparse.Namespace) -> CfgNode:
    """The frozen config: of ``--model`` or ``--config-file``, the flags, KEY VALUE."""
    formats = tuple(name.strip() for name in (args.formats or "").split(","))
    overrides = {
        "MODEL.ARCH": args.arch,
        "MODEL.WEIGHTS": args.weights,
        "EXPORT.FORMATS": args.formats and repr(formats),
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
