"""Do exported files compute what PyTorch computes? Every network of the zoo, on real photos.

    python benchmarks/export_parity.py PHOTOS

exports each network of ``fpnas zoo list`` to ONNX and TorchScript as ``fpnas export`` does it, at
its own input size, and runs the files on ``--images`` photos; int8 is calibrated on 100. PHOTOS is
a folder as imagenet_sample.py takes it. Where no weights are published, weights are random,
BatchNorms have spread parameters and statistics of the photos, so that outputs depend on the image.

Prints the largest relative error of the logits, the share of photos with the same top-1, and, for
ONNX, whether NNAPI and CoreML take the whole graph (they do with ``--rewrites phone``). Exit code 1
if a file deviates by more than 1e-4 or on any photo's top-1.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from imagenet_sample import list_photos, load
from tabulate import tabulate
from torch import Tensor, nn

from fpnas import model_zoo
from fpnas.data import Preprocessing
from fpnas.errors import UserError
from fpnas.export import ExportReport, export_model
from fpnas.modeling import SearchedNet

_CALIBRATION = 100  # photos
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def check(
    name: str,
    photos: Sequence[tuple[Path, int]],
    formats: Sequence[str],
    rewrites: Sequence[str],
    calibration: Sequence[tuple[Path, int]] = (),
) -> list[list]:
    """A row for each format: name, weights, px, and what was found, in the order of the headers.

    ``rewrites``: as EXPORT.REWRITES. ``calibration``: photos that set the ranges of int8.
    """
    start = time.process_time()
    info = model_zoo.info(name)
    published = info.record is not None
    size = info.record.input_size if published else info.arch.input_size
    preprocessing = (
        info.record.preprocessing
        if published
        else Preprocessing(size, 0.875, "bicubic", **_IMAGENET)
    )
    images, _ = load(photos, preprocessing)
    torch.manual_seed(0)
    model = model_zoo.get(name, pretrained=published).eval()
    if not published:
        enliven(model, images)
    with tempfile.TemporaryDirectory() as folder:
        reports = export_model(
            *(model, folder, formats, size, images),
            calibration=load(calibration, preprocessing)[0] if calibration else None,
            warmup=0,
            runs=1,
            rewrites=rewrites,
        )
    seconds = time.process_time() - start
    weights = "published" if published else "random"
    return [[name, weights, size, *_cells(report), seconds] for report in reports]


def _spread(photos: Sequence[tuple[Path, int]], count: int) -> Sequence[tuple[Path, int]]:
    """About ``count`` of them, from the whole folder."""
    return photos[:: max(len(photos) // count, 1)][:count]


def enliven(network: SearchedNet, images: Tensor) -> None:
    """Spread the BatchNorms' parameters and let their statistics be those of ``images``."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 2.0)
        nn.init.normal_(norm.bias, std=0.5)
        norm.momentum = None  # the average over what it has seen
    with torch.no_grad():
        network.train()(images)
    network.eval()


def _cells(report: ExportReport) -> list:
    status = report.status if report.status == "ok" else f"{report.status}: {report.message}"
    verdicts = ", ".join(sorted(set(report.accelerators.values())))
    return [report.format, status, report.max_rel_error, report.top1_agreement, verdicts]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, metavar="PHOTOS")
    parser.add_argument("--model", nargs="+", help="names of 'fpnas zoo list'; default: all")
    parser.add_argument("--formats", nargs="+", default=["onnx", "torchscript"])
    parser.add_argument("--rewrites", nargs="+", default=["auto"], help="as EXPORT.REWRITES")
    parser.add_argument("--images", type=int, default=20, help="photos, spread over the folder")
    args = parser.parse_args(argv)
    logging.getLogger("fpnas").setLevel(logging.ERROR)
    rows = []
    try:
        photos = list_photos(args.photos)
        spread = _spread(photos, args.images)
        calibration = _spread(photos, _CALIBRATION) if "onnx-int8" in args.formats else ()
        for name in args.model or model_zoo.list_models():
            rows += check(name, spread, args.formats, args.rewrites, calibration)
            print(*rows[-1], file=sys.stderr, flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    headers = [
        "network",
        "weights",
        "px",
        "format",
        "status",
        "largest rel. error",
        "same top-1, %",
        "on phones",
    ]
    print(tabulate(rows, [*headers, "CPU s"], floatfmt=("",) * 5 + (".1e", ".1f", "", ".0f")))
    return 0 if all(row[4] == "ok" for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
