"""Cut the embedded data set fashion_mnist_mini out of the full Fashion-MNIST.

    python tools/make_fashion_mnist_mini.py FOLDER_OF_FASHION_MNIST [OUTPUT_FOLDER]

Keeps the first 600 training and the first 100 test images of every class, in the order of the
original files (which is shuffled already). No random choice is involved and the gzip headers carry
no time, so every run writes the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import struct
from pathlib import Path

import torch

from fpnas.data.fashion_mnist import read_idx

IMAGES_PER_CLASS = {"train": 600, "t10k": 100}
NUM_CLASSES = 10


def first_of_each_class(labels: torch.Tensor, count: int) -> torch.Tensor:
    """Ascending indices of the first ``count`` occurrences of every class."""
    firsts = [torch.nonzero(labels == label).flatten()[:count] for label in range(NUM_CLASSES)]
    return torch.cat(firsts).sort().values


def write_idx(path: Path, array: torch.Tensor) -> None:
    """Write uint8 data in the gzip-compressed idx format of the original files."""
    header = bytes([0, 0, 0x08, array.dim()]) + struct.pack(f">{array.dim()}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.numpy().tobytes(), compresslevel=9, mtime=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder of the four original idx .gz files")
    default = Path(__file__).resolve().parents[1] / "fpnas" / "data" / "fashion_mnist_mini"
    parser.add_argument("output", type=Path, nargs="?", default=default)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    for part, count in IMAGES_PER_CLASS.items():
        names = f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz"
        images, labels = (read_idx(args.source / name) for name in names)
        chosen = first_of_each_class(labels, count)
        for name, array in zip(names, (images, labels), strict=True):
            write_idx(args.output / name, array[chosen])
            print(f"{args.output / name}: {len(chosen)} entries")


if __name__ == "__main__":
    main()
