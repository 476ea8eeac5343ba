"""The command ``fpnas``: one module a subcommand, each with ``add_arguments`` and ``run``.

These modules import PyTorch only inside ``run``, so that ``fpnas --help`` answers at once.
"""

import warnings

from fpnas.cli.main import main

# fvcore calls torch.jit when it is imported. Whoever types a command can do nothing about that.
warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)

__all__ = ["main"]
