"""Put a finished training into the model zoo: weights, record, and the accuracy of what is stored.

    python tools/zoo/publish_trained.py out/train fp_nas_c10_s --recipe zoo/CIFAR10.yaml \\
        --dataset "CIFAR-10 as JPEG files, 50,000 images" --data-argument cifar10 \\
        --test-data "10,000 test images of CIFAR-10 as JPEG files"

The commit in the record is --commit, by default that of the checkout. Afterwards, the tables:
``python tools/zoo/tables.py --write``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fpnas.errors import UserError
from fpnas_zoo.checkout import head_commit
from fpnas_zoo.publish import Training, publish_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="OUTPUT_DIR of a finished training")
    parser.add_argument("name", help="in the zoo")
    parser.add_argument("--arch", help="name in ARCH_REGISTRY (default: the name in the zoo)")
    parser.add_argument("--recipe", required=True, help="its config, as --config-file takes it")
    parser.add_argument("--dataset", required=True, help="the training images, in words")
    parser.add_argument("--test-data", required=True, help="the test images, in words")
    parser.add_argument("--data-argument", default="", help="stands for DATA.ROOT in the record")
    parser.add_argument("--commit", help="of fpnas, with which it ran")
    args = parser.parse_args()
    try:
        training = Training(
            args.recipe,
            args.dataset,
            args.test_data,
            args.data_argument,
            args.commit or head_commit(),
        )
        record = publish_run(args.folder, args.name, args.arch or args.name, training)
    except UserError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
    print(f"{record.name}: {record.metric('top1').value:.2f} %, {record.size_bytes / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
