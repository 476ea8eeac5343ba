"""``python -m fpnas`` is the command ``fpnas``."""

import sys

from fpnas.cli import main

if __name__ == "__main__":
    sys.exit(main())
