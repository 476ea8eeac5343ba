#!/usr/bin/env python3
"""The same as ``fpnas analyze``."""

import sys

from fpnas.cli import main

if __name__ == "__main__":
    sys.exit(main(["analyze", *sys.argv[1:]]))
