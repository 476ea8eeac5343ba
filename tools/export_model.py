#!/usr/bin/env python3
"""The same as ``fpnas export``."""

import sys

from fpnas.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
