"""What 8 bits cost in accuracy and gain in size and speed, on trained networks.

    python benchmarks/int8.py --data cifar10 --output-dir out/int8

trains one small MBConv architecture in four forms (ReLU, ReLU + SE, Swish + SE, hard-swish + SE) on
a folder of 32 px images, exports each to ``onnx`` and ``onnx-int8``, calibrated on 200 training
images, and runs both files on ``--test-images`` test images. Without --data it takes the
Fashion-MNIST images of the package. Channels are multiples of 16.

``size`` and ``speed`` are int8 over float32, and ``speed at 224 px`` is that of a wider network of
the same form with random weights. Times are CPU time of one thread in ONNX Runtime, medians over
interleaved rounds. What is done is kept in --output-dir, and an interrupted run goes on there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from benchmark_config import config_from
from speed_lib.rounds import CPU_ONE_THREAD, interleave, ratios
from tabulate import tabulate
from torch import Tensor
from units import stored

from fpnas.archs import Architecture
from fpnas.blocks import ConvSpec, HeadSpec, MBConvSpec
from fpnas.config import CfgNode
from fpnas.data import TestLoader, build_dataset
from fpnas.errors import UserError
from fpnas.export import EXPORT_FORMATS, ExportFormat, export_model, onnx, onnx_int8
from fpnas.export.parity import run_in_batches
from fpnas.export.run import export_images
from fpnas.export.source import Quantization, prepare_source
from fpnas.modeling import SearchedNet
from fpnas.training import load_trained, run_training

# Activation and number of splits.
FORMS = {
    "relu": ("relu", 0),
    "relu_se": ("relu", 1),
    "swish_se": ("swish", 1),
    "hswish_se": ("hswish", 1),
}
# Channels, stride of the first block, kernel, expansion and number of blocks of each stage.
SMALL = ((16, 1, 3, 1, 1), (32, 2, 3, 3, 2), (48, 2, 5, 3, 2), (128, 2, 3, 4, 2))
LARGE = (
    *((16, 1, 3, 1, 1), (32, 2, 3, 3, 2), (48, 2, 5, 3, 3)),
    *((80, 2, 3, 6, 3), (112, 1, 5, 6, 2), (192, 2, 5, 6, 3)),
)
LARGE_SIZE = 224
FILES = ("onnx", "onnx-int8")


def network_of(form: str, stages: Sequence[tuple], size: int, stem_stride: int) -> Architecture:
    """The architecture of that form."""
    act, splits = FORMS[form]
    blocks = tuple(
        tuple(
            MBConvSpec(channels, 1 if i else stride, kernel, expansion, act, splits)
            for i in range(count)
        )
        for channels, stride, kernel, expansion, count in stages
    )
    stem = ConvSpec(16, 3, stem_stride, act)
    return Architecture(form, size, stem, blocks, HeadSpec(640, num_classes=10, act=act))


def config(args: argparse.Namespace, form: str) -> CfgNode:
    """Of the training, in a folder of its own."""
    folder = args.output_dir / form
    overrides = {
        "DATA.ROOT": args.data or "",
        "OUTPUT_DIR": folder / "train",
        "MODEL.ARCH": folder / "form.yaml",
        "SOLVER.EPOCHS": args.epochs,
        "LOG.TENSORBOARD": False,
    }
    cfg = config_from(f"quick/{'train_folder' if args.data else 'train'}.yaml", overrides)
    folder.mkdir(parents=True, exist_ok=True)
    arch = network_of(form, SMALL, cfg.DATA.INPUT_SIZE, 1)
    (folder / "form.yaml").write_text(arch.to_yaml())
    return cfg


def measure(args: argparse.Namespace, form: str) -> dict[str, float]:
    """Train and export one form; its figures."""
    cfg = config(args, form)
    stored(args.output_dir / form / "train.json", lambda: run_training(cfg, resume=True))
    model = load_trained(str(Path(cfg.OUTPUT_DIR) / "model_final.pth")).model.eval()
    test = build_dataset(cfg, "test")
    spread = torch.linspace(0, len(test) - 1, min(args.test_images, len(test))).long()
    loader = TestLoader(test.subset(spread), cfg, cfg.TEST.BATCH_SIZE)
    batches, labels = zip(*loader, strict=True)
    images, truth = torch.cat(batches).numpy(), torch.cat(labels).numpy()
    calibration = export_images(cfg, test, test.classes, calibrate=True).calibration
    folder = args.output_dir / form / "export"
    files = exported(model, folder, torch.from_numpy(images[:100]), calibration)
    logits = {
        name: run_in_batches(EXPORT_FORMATS[name].load(file, 1), images, 1)
        for name, file in files.items()
    }
    classes = {name: found.argmax(1) for name, found in logits.items()}
    accuracy = {name: 100 * float(np.mean(found == truth)) for name, found in classes.items()}
    sizes = {name: file.stat().st_size for name, file in files.items()}
    return {
        "mflops": model.arch.flops() / 1e6,
        "float32, %": accuracy["onnx"],
        "int8, %": accuracy["onnx-int8"],
        "same top-1, %": 100 * float(np.mean(classes["onnx"] == classes["onnx-int8"])),
        "images": len(images),
        "size": sizes["onnx-int8"] / sizes["onnx"],
        "speed": speed(files, images[:1], args.rounds, calls=20),
    }


def large(args: argparse.Namespace, form: str) -> dict[str, float]:
    """Speed of the wide network of that form."""
    torch.manual_seed(0)
    arch = network_of(form, LARGE, LARGE_SIZE, 2)
    images = torch.randn(4, 3, LARGE_SIZE, LARGE_SIZE)
    network = SearchedNet(arch)
    with torch.no_grad():
        network.train()(images)
    with tempfile.TemporaryDirectory() as folder:
        files = exported(network, Path(folder), images, images, checked=False)
        gain = speed(files, images[:1].numpy(), args.rounds, calls=2)
    return {"mflops at 224 px": arch.flops() / 1e6, "speed at 224 px": gain}


def exported(
    model: SearchedNet, folder: Path, images: Tensor, calibration: Tensor, checked: bool = True
) -> dict[str, Path]:
    """The file of each format; UserError if one does not do what the network does.

    Not ``checked``: of random weights, whose classes are too close for 8 bits.
    """

    if checked:
        reports = export_model(
            model, folder, FILES, images.shape[2], images, calibration=calibration, runs=1
        )
        for report in reports:
            if report.status != "ok":
                raise UserError(f"{report.format}: {report.status}. {report.message}")
        return {report.format: report.file for report in reports}
    quantization = Quantization(calibration=calibration.numpy())
    source = prepare_source(model, images, {}, 1, False, quantization=quantization)
    files = {name: folder / f"model{EXPORT_FORMATS[name].suffix}" for name in FILES}
    onnx.export(source, files["onnx"])
    onnx_int8.export(source, files["onnx-int8"])
    return files


def speed(files: dict[str, Path], image: np.ndarray, rounds: int, calls: int) -> float:
    """Time of the float32 file over that of the int8 file."""
    runs = {
        name: _repeated(EXPORT_FORMATS[name], file, image, calls) for name, file in files.items()
    }
    times = interleave(runs, rounds, CPU_ONE_THREAD, warmup=2)
    return median(ratios(times, "onnx", "onnx-int8"))


def _repeated(entry: ExportFormat, file: Path, image: np.ndarray, calls: int) -> Callable[[], None]:
    run = entry.load(file, 1)

    def repeated() -> None:
        for _ in range(calls):
            run(image)

    return repeated


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="image folder; default: the embedded images")
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS), metavar="FORM")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--test-images", type=int, default=10000)
    parser.add_argument("--rounds", type=int, default=25)
    args = parser.parse_args(argv)
    figures = {}
    for form in args.forms:
        small = stored(
            args.output_dir / form / "figures.json", lambda form=form: measure(args, form)
        )
        wide = stored(args.output_dir / form / "large.json", lambda form=form: large(args, form))
        figures[form] = small | wide
    names = list(next(iter(figures.values())))
    rows = [[form, *(found[name] for name in names)] for form, found in figures.items()]
    print(tabulate(rows, headers=["form", *names], floatfmt=".4g"))
    return figures


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"int8: {error}")
