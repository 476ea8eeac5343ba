#!/usr/bin/env python3
"""The same as ``fpnas train``."""

import sys

from fpnas.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
