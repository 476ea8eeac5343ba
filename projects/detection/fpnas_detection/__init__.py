"""Detectors of torchvision on backbones of fpnas: config, data, training, evaluation, export."""

import sys
from pathlib import Path

# fpnas_tasks, which this project shares with others, lies beside it.
sys.path.append(str(Path(__file__).parents[2] / "common"))
