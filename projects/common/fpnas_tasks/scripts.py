"""The command lines of the projects' scripts."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fpnas.cli.flags import (
    add_config_arguments,
    add_resume_arguments,
    check_overrides,
    check_resume_arguments,
)
from fpnas.cli.main import guarded
from fpnas.config import CfgNode
from fpnas.config.checks import check_value
from fpnas.data.preprocessing import square_input
from fpnas.export.report import accelerators_text


def parser_of(doc: str) -> argparse.ArgumentParser:
    """A parser that shows ``doc``, of the script, as it stands."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def train_main(
    doc: str,
    config_from_args: Callable[[argparse.Namespace], CfgNode],
    run_training: Callable[..., Any],
    argv: list[str] | None = None,
) -> int:
    """train.py: a training as the flags say. Returns the exit code."""

    def run(args: argparse.Namespace) -> int:
        check_resume_arguments(args)
        cfg = config_from_args(args)
        run_training(cfg, resume=args.resume, allow_changes=args.allow_changes)
        return 0

    parser = parser_of(doc)
    add_resume_arguments(parser)
    add_config_arguments(parser)
    return guarded(run, parser.parse_args(argv))


def add_weights_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the checkpoint that comes first, and the trailing KEY VALUE overrides."""
    parser.add_argument("weights", help="checkpoint of train.py")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")


def export_main(
    doc: str,
    load: Callable[[str, list[str]], Any],
    read_images: Callable[[Any], Any],
    export: Callable[[Any, str, Tensor, int], tuple[Any, str]],
    argv: list[str] | None = None,
) -> int:
    """export.py: an ONNX file, and how it compares. Returns the exit code.

    Args:
        doc: of the script.
        load: from the checkpoint and KEY VALUE overrides to what is exported; has a ``cfg``.
        read_images: its validation images; they have ``image(index)``.
        export: writes the file, compares it on images (N, 3, S, S) with so many threads; returns
            the comparison (torch_ms, onnx_ms, accelerators) and in words what was compared.
    """

    def run(args: argparse.Namespace) -> int:
        check_overrides(args.opts)
        for flag, value in (("--count", args.count), ("--threads", args.threads)):
            check_value(flag, value, value >= 1, "at least 1")
        trained = load(args.weights, args.opts)
        data, side = read_images(trained), trained.cfg.DATA.INPUT_SIZE
        rows = range(min(args.count, len(data)))
        images = torch.stack([square_input(data.image(i), side) for i in rows])
        found, compared = export(trained, args.output, images, args.threads)
        print(
            f"{args.output}: {compared}; {found.onnx_ms:.1f} ms an image "
            f"(PyTorch: {found.torch_ms:.1f} ms) with {args.threads} thread(s)"
        )
        if found.accelerators:
            print(f"on phones: {accelerators_text(found.accelerators)}")
        return 0

    parser = parser_of(doc)
    parser.add_argument("weights", help="checkpoint of train.py")
    parser.add_argument("output", help="the ONNX file")
    parser.add_argument("--count", type=int, default=50, help="images compared (default: 50)")
    parser.add_argument("--threads", type=int, default=1, help="of both runtimes (default: 1)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    return guarded(run, parser.parse_args(argv))
