#!/usr/bin/env python3
"""The same as ``fpnas search``."""

import sys

from fpnas.cli import main

if __name__ == "__main__":
    sys.exit(main(["search", *sys.argv[1:]]))
