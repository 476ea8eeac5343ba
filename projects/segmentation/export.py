"""Write a trained segmenter as ONNX, checked in ONNX Runtime on validation images.

python export.py --count 50 out/model_final.pth segmenter.onnx DATA.ROOT masks
"""

from __future__ import annotations

import argparse
import sys

import torch

from fpnas.cli.main import guarded
from fpnas.config.checks import check_value
from fpnas.config.flags import check_overrides
from fpnas.data.preprocessing import square_input
from fpnas.export import mobile
from fpnas_segmentation.data import read_split
from fpnas_segmentation.export import export_segmenter
from fpnas_segmentation.run import load_segmenter


def run(args: argparse.Namespace) -> int:
    """Export, and print how it compares."""
    check_overrides(args.opts)
    for flag, value in (("--count", args.count), ("--threads", args.threads)):
        check_value(flag, value, value >= 1, "at least 1")
    segmenter = load_segmenter(args.weights, args.opts)
    cfg = segmenter.cfg
    data = read_split(cfg, cfg.SEGMENTATION.VAL_SPLIT)
    rows = range(min(args.count, len(data)))
    images = torch.stack([square_input(data.image(i), cfg.DATA.INPUT_SIZE) for i in rows])
    found = export_segmenter(segmenter, args.output, images, args.threads)
    print(
        f"{args.output}: largest relative error {found.max_rel_error:.1e}, same class on "
        f"{found.agreement:.4f} % of the pixels of {len(images)} images; {found.onnx_ms:.1f} ms "
        f"an image (PyTorch: {found.torch_ms:.1f} ms) with {args.threads} thread(s)"
    )
    if found.accelerators:
        print(f"on phones: {mobile.as_text(found.accelerators)}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", help="checkpoint of train.py")
    parser.add_argument("output", help="the ONNX file")
    parser.add_argument("--count", type=int, default=50, help="images compared (default: 50)")
    parser.add_argument("--threads", type=int, default=1, help="of both runtimes (default: 1)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    return guarded(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
