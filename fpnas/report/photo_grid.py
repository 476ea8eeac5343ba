"""Photos side by side in one picture."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from torchvision.utils import make_grid

from fpnas.errors import UserError
from fpnas.utils.file_io import output_file


def photo_grid(images: list[Tensor], columns: int, width: int) -> Tensor:
    """One picture, uint8 [3, H, W], of ``images`` in rows of ``columns``, ``width`` px each.

    ``images``: uint8 [3, h, w]. All get the height of the tallest.
    """
    height = max(round(width * image.shape[1] / image.shape[2]) for image in images)
    same = torch.stack([F.resize(image, [height, width], antialias=True) for image in images])
    return make_grid(same, nrow=columns, padding=4, pad_value=255)


def picture_file(path: str | Path) -> Path:
    """As :func:`output_file`; UserError, too, if Pillow cannot write pictures of this ending."""
    Image.init()
    if Image.EXTENSION.get(Path(path).suffix.lower()) not in Image.SAVE:
        raise UserError(f"'{path}' does not end as a picture does, such as .png or .jpg.")
    return output_file(path)
