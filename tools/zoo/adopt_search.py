"""Register what a search found: named architectures, and the search in searched.yaml.

    python tools/zoo/adopt_search.py out/spp search/CIFAR10-S1++-to-S4++.yaml \\
        --data "CIFAR-10 as JPEG files, 48 px" fp_nas_s1pp=FP-NAS-S1++ fp_nas_s2pp=FP-NAS-S2++

One name for each target of the search, in their order; after '=' the paper's network with that
target, if it has one. The commit in the record is --commit, by default that of the checkout.
Afterwards, the tables: ``python tools/zoo/tables.py --write``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fpnas.errors import UserError
from fpnas_zoo.checkout import head_commit
from fpnas_zoo.searches import adopt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="OUTPUT_DIR of a finished search")
    parser.add_argument("config", help="its configuration, as --config-file takes it")
    parser.add_argument("names", nargs="+", metavar="NAME[=PAPER]", help="one for each target")
    parser.add_argument("--data", required=True, help="the images, in words")
    parser.add_argument("--commit", help="of fpnas, with which it ran")
    args = parser.parse_args()
    try:
        adopt(args.folder, args.config, args.data, args.names, args.commit or head_commit())
    except UserError as error:
        sys.exit(f"{Path(__file__).name}: {error}")


if __name__ == "__main__":
    main()
