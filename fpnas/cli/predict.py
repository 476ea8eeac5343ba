"""Name what photos show: the most probable classes with their probabilities.

fpnas predict --model efficientnet_lite0 dog.jpg
fpnas predict --weights out/train/model_final.pth *.jpg

A file that is no readable image is named on stderr, the others are classified all the same, and the
exit code is then 1.
"""

from __future__ import annotations

import argparse
import sys

from fpnas.errors import DataError, UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which network, which images."""
    network = parser.add_mutually_exclusive_group(required=True)
    network.add_argument(
        "--model", metavar="NAME", help="published network ('fpnas zoo list --pretrained')"
    )
    network.add_argument("--weights", metavar="FILE", help="checkpoint of a training")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="classes (default: 5)")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files")


def run(args: argparse.Namespace) -> int:
    """Print the classes of every image."""
    if args.top < 1:
        raise UserError(f"--top must be at least 1, found {args.top}.")
    from fpnas.training import Classifier

    classifier = (
        Classifier.from_zoo(args.model) if args.model else Classifier.from_checkpoint(args.weights)
    )
    code = 0
    for path in args.images:
        try:
            guesses = classifier.predict(path, args.top)
        except DataError as error:
            print(f"fpnas: error: {error}", file=sys.stderr)
            code = 1
            continue
        print(path)
        for guess in guesses:
            print(f"  {100 * guess.probability:5.1f} %  {guess.name}")
    return code
