"""Published networks beside the paper's: MODEL_ZOO.md, Table 8 and Figure 1.

python tools/zoo/tables.py            # the text of MODEL_ZOO.md
python tools/zoo/tables.py --write    # MODEL_ZOO.md and its pictures, into the zoo's folder
python tools/zoo/tables.py --paper --figure figure-1.svg
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fpnas.errors import UserError
from fpnas_zoo import markdown, paper


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--paper", action="store_true", help="Table 8 of the paper with costs counted here"
    )
    parser.add_argument(
        "--figure", type=Path, metavar="FILE", help="write Figure 1 of the paper as SVG"
    )
    parser.add_argument(
        "--write", action="store_true", help="write MODEL_ZOO.md into the zoo's folder"
    )
    args = parser.parse_args(argv)
    if args.figure is not None:
        try:
            args.figure.write_text(paper.figure_1(), encoding="utf-8")
        except OSError as error:
            raise UserError(f"Cannot write '{args.figure}': {error.strerror}.") from None
        print(f"Wrote {args.figure}")
    if args.write:
        print(f"Wrote {markdown.write_model_zoo()}")
    if args.paper:
        print(paper.table_8())
    elif not args.write and args.figure is None:
        print(markdown.model_zoo_text())


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"{Path(__file__).name}: {error}")
