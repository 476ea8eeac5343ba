"""Decoding of image files to uint8 RGB tensors."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from fpnas.errors import DataError

#: Endings of files that count as images, in lower case.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif"),
    *(".bmp", ".pgm", ".ppm", ".tif", ".tiff"),
)


def decode_image(path: str) -> Tensor:
    """The image file as uint8 [3, H, W] RGB, turned upright if its EXIF data says so.

    Greyscale is repeated to three channels, an alpha channel is dropped, 16-bit values are scaled
    to 8 bits, and of an animation the first frame is taken.

    Raises DataError, which names the file, if it is missing, empty, truncated or no image, or if
    its values are floating-point numbers other than the levels 0 to 255.
    """
    # Pillow rather than torchvision.io: torchvision 0.29 deprecated its decoders. Pillow, too,
    # gives up the interpreter lock while it decodes, so that threads help.
    try:
        with Image.open(path) as image:
            pixels = np.array(_to_rgb(ImageOps.exif_transpose(image)))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plug-ins raise whatever they come across
        reason = str(error) or type(error).__name__
        raise DataError(f"{path} is no readable image: {reason}") from None
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit greyscale, which convert() would clip at 255
        eight_bits = np.asarray(image).astype(np.int64).clip(0, 65535) // 257
        image = Image.fromarray(eight_bits.astype(np.uint8))
    elif image.mode == "P":  # the way over RGBA knows transparency in bytes, of which RGB warns
        image = image.convert("RGBA")
    elif image.mode == "F":  # convert() would clip at 0 and 255
        _check_levels(np.asarray(image))
    return image.convert("RGB")


def _check_levels(pixels: np.ndarray) -> None:
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and 1 < high <= 255):  # not a number included
        raise ValueError(
            f"its floating-point values reach from {low:g} to {high:g}; valid: levels from 0 to "
            "255. Save it with 8 or 16 bits"
        )


def naming_remedy(error: DataError) -> DataError:
    """``error`` about an image of a data set, with the key that leaves such images out."""
    text = str(error).removesuffix(".")
    return DataError(f"{text}. DATA.SKIP_CORRUPT True leaves unreadable images out.")


def try_decode(decode: Callable[[int], Tensor], index: int) -> Tensor | DataError:
    """``decode(index)``, with a DataError as a value: it shall cross threads and processes."""
    try:
        return decode(index)
    except DataError as error:
        return error


def file_size(path: str | Path) -> int:
    """Bytes. Raises DataError if the file has gone."""
    try:
        return os.path.getsize(path)
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}.") from None
