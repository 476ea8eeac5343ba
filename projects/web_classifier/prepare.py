"""Put an exported model where the page finds it, with what the browser cannot read from the file.

python prepare.py --calibration photos                    export efficientnet_lite0 to int8
python prepare.py --onnx out/export/model.int8.onnx       take a file of 'fpnas export'

The page needs a file with --bake-preprocess, whose input is 8-bit pixels. ONNX Runtime Web shows no
metadata, so class names and preprocessing are written to model.json beside it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from fpnas.archs import Architecture
from fpnas.cli import main as fpnas
from fpnas.errors import UserError
from fpnas.export.onnx import read_metadata

MODEL_DIR = Path(__file__).resolve().parent / "model"


def describe(onnx_file: Path) -> dict[str, Any]:
    """What the page has to know about ``onnx_file``: name, file, classes, preprocessing.

    Raises UserError if the file takes no 8-bit pixels (1, S, S, 3).
    """
    metadata = read_metadata(onnx_file)
    found = json.loads(metadata.get("input", "{}"))
    side = json.loads(metadata.get("preprocessing", "{}")).get("input_size")
    if found != {"shape": [1, side, side, 3], "dtype": "uint8"}:
        raise UserError(
            f"'{onnx_file}' takes {found or 'an unknown input'}; the page needs one image of 8-bit "
            "pixels: export with --bake-preprocess and without --dynamic-batch."
        )
    return {
        "name": Architecture.from_yaml(metadata["architecture"]).name,
        "file": onnx_file.name,
        "classes": json.loads(metadata["classes"]),
        "preprocessing": json.loads(metadata["preprocessing"]),
    }


def install(onnx_file: Path, model_dir: Path) -> None:
    """Copy ``onnx_file`` to ``model_dir`` and write model.json beside it. Raises UserError."""
    if not onnx_file.is_file():
        raise UserError(f"There is no file '{onnx_file}'.")
    description = describe(onnx_file)
    model_dir.mkdir(parents=True, exist_ok=True)
    target = model_dir / onnx_file.name
    if target.resolve() != onnx_file.resolve():
        shutil.copyfile(onnx_file, target)
    (model_dir / "model.json").write_text(json.dumps(description, indent=1) + "\n")
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB, {len(description['classes'])} classes")


def main() -> int:
    """Export if asked to, then install."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--calibration", metavar="DIR", help="at least 100 photos of all kinds")
    source.add_argument("--onnx", type=Path, metavar="FILE", help="an exported file")
    parser.add_argument(
        "--model", default="efficientnet_lite0", help="what to export (default: %(default)s)"
    )
    args = parser.parse_args()
    onnx_file = args.onnx
    if onnx_file is None:
        options = f"--formats onnx-int8 --bake-preprocess --model {args.model}".split()
        options += ["--calibration", args.calibration, "--output-dir", str(MODEL_DIR)]
        code = fpnas(["export", *options])
        if code:
            return code
        onnx_file = MODEL_DIR / "model.int8.onnx"
    try:
        install(onnx_file, MODEL_DIR)
    except UserError as error:
        print(f"prepare.py: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
