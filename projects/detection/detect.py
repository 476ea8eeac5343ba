"""Draw what a trained detector finds on photos.

python detect.py --output picture.png out/model_final.pth photo1.jpg photo2.jpg
"""

from __future__ import annotations

import argparse
import sys

from torchvision.transforms.v2.functional import to_pil_image

from fpnas.cli.main import guarded
from fpnas.config.checks import check_value
from fpnas.data.decode import decode_image
from fpnas_detection.inference import detect, draw_detections, load_detector
from fpnas_tasks.photo_grid import photo_grid, picture_file
from fpnas_tasks.scripts import parser_of


def run(args: argparse.Namespace) -> int:
    """Write one picture of all photos."""
    check_value("--columns", args.columns, args.columns >= 1, "at least 1")
    detector = load_detector(args.weights)
    output = picture_file(args.output)
    drawn = []
    for name in args.photos:
        image = decode_image(name)
        found = detect(detector.model, [image], detector.cfg.DATA.INPUT_SIZE)[0]
        drawn.append(draw_detections(image, found, detector.classes, args.threshold))
        print(f"{name}: {int((found['scores'] >= args.threshold).sum())} objects")
    to_pil_image(photo_grid(drawn, args.columns, width=400)).save(output)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = parser_of(__doc__)
    parser.add_argument("weights", help="checkpoint of train.py")
    parser.add_argument("photos", nargs="+", help="image files")
    parser.add_argument(
        "--output", default="detections.png", help="the picture (default: %(default)s)"
    )
    parser.add_argument("--threshold", type=float, default=0.5, help="lowest score shown")
    parser.add_argument("--columns", type=int, default=3, help="photos side by side")
    return guarded(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
