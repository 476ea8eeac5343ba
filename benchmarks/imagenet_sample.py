"""Top-1 accuracy of published ImageNet weights on sample photos, in PyTorch and as ONNX file.

    python benchmarks/imagenet_sample.py PHOTOS --model efficientnet_lite0

PHOTOS is a folder of image files called CLASSINDEX_anything.jpg, with the class index 0 to 999 in
the order of the synset ids; the repository EliSchwartz/imagenet-sample-images has such photos. A
few hundred photos are a check of weights and preprocessing, not the accuracy on ImageNet: photos
of a training set, as these may be, are easier.

The ONNX file is exported as ``fpnas export`` does it, and every photo is compared: the largest
relative error of the logits, and on how many photos the most probable class is the same. Every
other photo, without its label, sets the ranges of int8.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor

from fpnas import model_zoo
from fpnas.data import Preprocessing
from fpnas.data.decode import IMAGE_SUFFIXES, decode_image
from fpnas.errors import DataError, UserError
from fpnas.export import export_model
from fpnas.modeling import SearchedNet

_NAME = re.compile(r"(\d{1,4})_.+")
_BATCH = 20


def list_photos(folder: Path) -> list[tuple[Path, int]]:
    """Photos and their class indices, sorted by name. Raises DataError if there are none."""
    if not folder.is_dir():
        raise DataError(f"The folder of photos '{folder}' does not exist.")
    photos = [
        (path, int(match[1]))
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES and (match := _NAME.fullmatch(path.stem))
    ]
    if not photos:
        raise DataError(f"'{folder}' has no photos called CLASSINDEX_anything.jpg.")
    return photos


def load(photos: Sequence[tuple[Path, int]], preprocessing: Preprocessing) -> tuple[Tensor, Tensor]:
    """Network inputs float32 [N, 3, S, S] and labels [N]."""
    images = torch.stack([preprocessing(decode_image(str(path))) for path, _ in photos])
    return images, torch.tensor([label for _, label in photos])


def top1_in_pytorch(model: SearchedNet, images: Tensor, labels: Tensor) -> float:
    """Percent."""
    with torch.inference_mode():
        ranked = torch.cat([model(batch).argmax(1) for batch in images.split(_BATCH)])
    return 100 * (ranked == labels).double().mean().item()


def measure(
    name: str,
    photos: Sequence[tuple[Path, int]],
    formats: Sequence[str],
    int8_method: str = "minmax",
) -> list[list]:
    """One row a runtime: model, runtime, photos, top-1, largest relative error, agreement."""
    record = model_zoo.info(name).record
    model = model_zoo.get(name, pretrained=True).eval()
    images, labels = load(photos, record.preprocessing)
    rows = [[name, "PyTorch", len(labels), top1_in_pytorch(model, images, labels), None, None]]
    with tempfile.TemporaryDirectory() as folder:
        reports = export_model(
            model,
            folder,
            formats,
            input_size=record.input_size,
            images=images,
            labels=labels,
            calibration=images[::2],
            int8_method=int8_method,
            runs=1,
        )
    for report in reports:
        if report.status != "ok":
            raise UserError(f"{report.format}: {report.status}. {report.message}")
        rows.append(
            [
                *(name, report.format, len(labels), report.accuracy),
                *(report.max_rel_error, report.top1_agreement),
            ]
        )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, metavar="PHOTOS")
    parser.add_argument(
        "--model", nargs="+", default=["efficientnet_lite0"], help="names of 'fpnas zoo list'"
    )
    parser.add_argument("--formats", nargs="*", default=["onnx"], help="of fpnas export")
    parser.add_argument("--int8-method", default="minmax", help="EXPORT.INT8_METHOD")
    args = parser.parse_args(argv)
    try:
        photos = list_photos(args.photos)
        rows = [
            row
            for name in args.model
            for row in measure(name, photos, args.formats, args.int8_method)
        ]
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    headers = ["model", "runtime", "photos", "top-1, %", "largest rel. error", "same top-1, %"]
    print(tabulate(rows, headers, floatfmt=("", "", "", ".1f", ".1e", ".1f")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
