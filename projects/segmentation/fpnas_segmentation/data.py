"""Images with masks: the files of a split, and the samples of a training."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors

from fpnas.config import CfgNode
from fpnas.data import Fingerprint, SplitPrint
from fpnas.data.decode import IMAGE_SUFFIXES, decode_image, file_size
from fpnas.data.fingerprint import files_print
from fpnas.errors import DataError
from fpnas_tasks.training import augmentation

IGNORED = 255  # in a mask: neither trained on nor counted


@dataclass(frozen=True)
class SegmentationSet:
    """Pairs of files: an image, and a PNG mask with the number of a class at each pixel."""

    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    num_classes: int

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Tensor:
        """uint8 [3, H, W] RGB. Raises DataError if the file cannot be read."""
        return decode_image(str(self.images[index]))

    def mask(self, index: int) -> Tensor:
        """int64 [H, W]. Raises DataError if it is unreadable or has a class that there is not."""
        file = self.masks[index]
        try:
            with Image.open(file) as image:
                pixels = np.array(image)
        except OSError as error:
            raise DataError(f"'{file}' is no readable mask: {error}.") from None
        if pixels.ndim != 2 or pixels.dtype != np.uint8:
            raise DataError(f"'{file}' must have one channel of 8 bits, found mode {image.mode}.")
        wrong = (pixels >= self.num_classes) & (pixels != IGNORED)
        if wrong.any():
            raise DataError(
                f"'{file}' has class {pixels[wrong].max()}; valid: 0 to {self.num_classes - 1} as "
                f"in SEGMENTATION.CLASSES, and {IGNORED} for pixels to ignore."
            )
        return torch.from_numpy(pixels).long()

    def pair(self, index: int) -> tuple[Tensor, Tensor]:
        """Image and mask. Raises DataError, too, if their sizes differ."""
        image, mask = self.image(index), self.mask(index)
        if image.shape[1:] != mask.shape:
            raise DataError(
                f"'{self.masks[index]}' has {tuple(mask.shape)} pixels, its image "
                f"{tuple(image.shape[1:])}."
            )
        return image, mask


def read_split(cfg: CfgNode, split: str) -> SegmentationSet:
    """The images in ``DATA.ROOT/split/images`` with the PNG files of the same stem in ``masks``.

    Raises DataError if a folder or a mask is missing.
    """
    folder = Path(cfg.DATA.ROOT) / split
    if not (folder / "images").is_dir():
        raise DataError(f"'{folder / 'images'}' does not exist; DATA.ROOT must have it.")
    images = sorted(f for f in (folder / "images").iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise DataError(f"'{folder / 'images'}' has no image.")
    masks = [folder / "masks" / f"{file.stem}.png" for file in images]
    missing = [file for file in masks if not file.is_file()]
    if missing:
        raise DataError(f"'{missing[0]}' does not exist ({len(missing)} masks are missing).")
    return SegmentationSet(tuple(images), tuple(masks), len(cfg.SEGMENTATION.CLASSES))


def fingerprint(cfg: CfgNode, **splits: SegmentationSet) -> Fingerprint:
    """What tells the ``splits`` by name from others: images by their sizes, masks by contents."""
    prints = {name: _split_print(cfg.DATA.ROOT, data) for name, data in splits.items()}
    return Fingerprint(tuple(cfg.SEGMENTATION.CLASSES), prints)


def _split_print(root: str, data: SegmentationSet) -> SplitPrint:
    traits = (
        f"{_file_hash(mask)} {file_size(image)}"
        for image, mask in zip(data.images, data.masks, strict=True)
    )
    return files_print(root, data.images, traits)


def _file_hash(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise DataError(f"'{file}' is no readable mask: {error}.") from None


class AugmentedSet:
    """The samples of a training; draws from torch's global generator."""

    def __init__(self, data: SegmentationSet, cfg: CfgNode) -> None:
        self._data = data
        self._transform = augmentation(cfg, cfg.SEGMENTATION, {tv_tensors.Mask: IGNORED})

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Image float32 [3, S, S] in [0, 1] and mask int64 [S, S]."""
        image, mask = self._data.pair(index)
        image, mask = self._transform(tv_tensors.Image(image), tv_tensors.Mask(mask))
        return image.as_subclass(Tensor), mask.as_subclass(Tensor)


def collate(samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Images [N, 3, S, S] and masks [N, S, S]."""
    images, masks = zip(*samples, strict=True)
    return torch.stack(images), torch.stack(masks)
