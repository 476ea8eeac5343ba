"""List the shipped configs.

Each can be given to --config-file by the name printed here, in and outside a checkout.
"""

from __future__ import annotations

import argparse

from fpnas.config import config_folder, list_configs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``fpnas configs`` takes no arguments."""


def run(args: argparse.Namespace) -> int:
    """Print the name and the first comment of every shipped config."""
    names = list_configs()
    width = max(map(len, names), default=0)
    print(f"In {config_folder()}:")
    for name in names:
        print(f"  {name:{width}}  {_first_comment(name)}".rstrip())
    return 0


def _first_comment(name: str) -> str:
    first_line = (config_folder() / name).read_text(encoding="utf-8").partition("\n")[0]
    return first_line.removeprefix("#").strip() if first_line.startswith("#") else ""
