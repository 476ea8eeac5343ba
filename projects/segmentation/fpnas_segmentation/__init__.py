"""Semantic segmentation: torchvision's LR-ASPP on backbones of fpnas."""

import sys
from pathlib import Path

# fpnas_tasks, which this project shares with others, lies beside it.
sys.path.append(str(Path(__file__).parents[2] / "common"))
