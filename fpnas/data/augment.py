"""Augmentation of training images: of one image by torchvision, of a batch in memory at once.

Both make the same random choices in distribution: crop, horizontal flip, policy, colour,
normalisation, erasing, in this order. They draw from different generators, so the pixels differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as nn_functional
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from fpnas.config import CfgNode
from fpnas.data.preprocessing import Preprocessing

#: Height-to-width range of a "resized" crop, and area and shape of an erased rectangle: those of
#: torchvision's RandomResizedCrop and RandomErasing.
CROP_RATIO = (3 / 4, 4 / 3)
ERASE_SCALE = (0.02, 0.33)
ERASE_RATIO = (0.3, 3.3)


@dataclass(frozen=True)
class Augmentation:
    """The keys under ``cfg.DATA.AUGMENT``, which explains them. The defaults change nothing."""

    crop: str = "none"
    pad: int = 0
    scale: tuple[float, float] = (1.0, 1.0)
    hflip: float = 0.0
    policy: str = ""
    color: float = 0.0
    erase: float = 0.0

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> Augmentation:
        node = cfg.DATA.AUGMENT
        crop = node.CROP, node.PAD, tuple(node.SCALE)
        return cls(*crop, node.HFLIP, node.POLICY, node.COLOR, node.ERASE)

    @property
    def needs_single_images(self) -> bool:
        """Whether some of it works image by image only."""
        return bool(self.policy or self.color)


def image_transform(
    augmentation: Augmentation, preprocessing: Preprocessing
) -> Callable[[Tensor], Tensor]:
    """uint8 [3, H, W] -> float32 [3, S, S], drawing from torch's global CPU generator."""
    side = preprocessing.input_size
    steps: list[Callable[[Tensor], Tensor]] = []
    if augmentation.crop == "resized":
        mode = preprocessing.interpolation_mode
        crop = v2.RandomResizedCrop(side, augmentation.scale, CROP_RATIO, mode, antialias=True)
        steps.append(crop)
    else:
        steps.append(preprocessing.resize_and_crop)
    if augmentation.crop == "pad" and augmentation.pad:
        steps.append(v2.RandomCrop(side, padding=augmentation.pad))
    if augmentation.hflip:
        steps.append(v2.RandomHorizontalFlip(augmentation.hflip))
    if augmentation.policy:
        steps.append(_policy(augmentation.policy, preprocessing))
    if augmentation.color:
        steps.append(v2.ColorJitter(*[augmentation.color] * 3))
    steps.append(preprocessing.normalize)
    if augmentation.erase:
        steps.append(v2.RandomErasing(augmentation.erase, ERASE_SCALE, ERASE_RATIO))
    return v2.Compose(steps)


def _policy(name: str, preprocessing: Preprocessing) -> v2.Transform:
    interpolation = preprocessing.interpolation_mode
    if name == "randaugment":
        return v2.RandAugment(interpolation=interpolation)
    if name == "trivialaugment":
        return v2.TrivialAugmentWide(interpolation=interpolation)
    policy = v2.AutoAugmentPolicy(name.removeprefix("autoaugment-"))
    return v2.AutoAugment(policy, interpolation=interpolation)


class BatchTransform:
    """Augments and normalises a batch of equally large images, without policy and colour.

    All choices come from the generator that the call gets; torch's global state is not touched.
    """

    def __init__(self, augmentation: Augmentation, preprocessing: Preprocessing) -> None:
        if augmentation.needs_single_images:
            raise ValueError("Policies and colour work image by image: use image_transform.")
        self.augmentation = augmentation
        self.preprocessing = preprocessing

    def __call__(
        self, images: Tensor, rows: slice, total: int, generator: torch.Generator
    ) -> Tensor:
        """Transform the images that are ``rows`` of a batch of ``total`` images.

        The choices are drawn for the whole batch, so that an image gets the same treatment on
        whichever rank it is.

        Args:
            images: uint8 [n, 3, H, W].
            rows: which n of the ``total`` images these are.
            total: images of the batch over all ranks.
            generator: source of the choices.

        Returns:
            float32 [n, 3, S, S].
        """
        augmentation, side = self.augmentation, self.preprocessing.input_size
        if augmentation.crop == "resized":
            draws = total, images.shape[-2:], augmentation.scale, CROP_RATIO, generator
            boxes = random_crops(*draws)[rows]
            images = resized_crop(images, boxes, self.preprocessing)
        else:
            images = self.preprocessing.resize_and_crop(images)
        if augmentation.crop == "pad" and augmentation.pad:
            offsets = torch.randint(2 * augmentation.pad + 1, (total, 2), generator=generator)
            images = shift(images, augmentation.pad, offsets[rows])
        if augmentation.hflip:
            chosen = torch.rand(total, generator=generator) < augmentation.hflip
            images = flip(images, chosen[rows])
        images = self.preprocessing.normalize(images)
        if augmentation.erase:
            boxes = random_erasures(total, (side, side), augmentation.erase, generator)
            images = erase(images, boxes[rows])
        return images


def shift(images: Tensor, pad: int, offsets: Tensor) -> Tensor:
    """Cut [H, W] at ``offsets`` [N, 2] (row, column; 0 to 2 pad) out of zero-padded images.

    Offsets (pad, pad) give back the image itself.
    """
    height, width = images.shape[-2:]
    padded = nn_functional.pad(images, [pad] * 4)
    # A view of all crops, [N, C, 2 pad + 1, 2 pad + 1, H, W]; only the chosen ones are copied.
    crops = padded.unfold(2, height, 1).unfold(3, width, 1)
    batch = torch.arange(len(images))
    return crops[batch, :, offsets[:, 0], offsets[:, 1]]


def flip(images: Tensor, chosen: Tensor) -> Tensor:
    """Mirror left and right the images [N, C, H, W] where ``chosen`` [N] is true."""
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def resized_crop(images: Tensor, boxes: Tensor, preprocessing: Preprocessing) -> Tensor:
    """``boxes`` [N, 4] (top, left, height, width) of the images, each resized to S x S."""
    size = [preprocessing.input_size] * 2
    mode = preprocessing.interpolation_mode
    crops = [
        F.resized_crop(image, *box, size, mode, antialias=True)
        for image, box in zip(images, boxes.tolist(), strict=True)
    ]
    return torch.stack(crops)


def erase(images: Tensor, boxes: Tensor) -> Tensor:
    """Set ``boxes`` [N, 4] (top, left, height, width) of normalised images to 0, the mean colour.

    Works in place.
    """
    top, left, height, width = boxes[:, :, None].unbind(1)
    rows, columns = (torch.arange(size)[None] for size in images.shape[-2:])
    in_rows = (rows >= top) & (rows < top + height)
    in_columns = (columns >= left) & (columns < left + width)
    inside = in_rows[:, :, None] & in_columns[:, None, :]
    return images.masked_fill_(inside[:, None], 0.0)


def random_crops(
    count: int,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
) -> Tensor:
    """Boxes [count, 4] (top, left, height, width) inside ``size``, as RandomResizedCrop draws them.

    The area is uniform in ``scale`` (share of the image), the logarithm of width / height uniform
    in that of ``ratio``. Where ten tries do not fit, the largest centred box of a valid ratio.
    """
    extents = _random_extents(count, size, scale, ratio, generator)
    limits = torch.tensor(size)
    fits = ((extents >= 1) & (extents <= limits)).all(-1)
    chosen = _first_where(fits, extents)
    corners = _random_corners(limits - chosen, generator)

    height, width = size
    fallback = torch.tensor(
        [min(height, round(width / ratio[0])), min(width, round(height * ratio[1]))]
    )
    found = fits.any(1)[:, None]
    chosen = torch.where(found, chosen, fallback)
    corners = torch.where(found, corners, (limits - fallback) // 2)
    return torch.cat([corners, chosen], dim=1)


def random_erasures(
    count: int, size: tuple[int, int], probability: float, generator: torch.Generator
) -> Tensor:
    """Boxes [count, 4] (top, left, height, width) to erase; height 0 where nothing is erased."""
    extents = _random_extents(count, size, ERASE_SCALE, ERASE_RATIO, generator)
    limits = torch.tensor(size)
    fits = (extents < limits).all(-1)
    chosen = _first_where(fits, extents)
    wanted = torch.rand(count, generator=generator) < probability
    corners = _random_corners(limits - chosen, generator)
    return torch.cat([corners, chosen], dim=1) * (wanted & fits.any(1))[:, None]


_TRIES = 10


def _random_extents(
    count: int,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
) -> Tensor:
    """Candidate (height, width) pairs [count, tries, 2]; some may not fit into ``size``."""
    draws = torch.rand(2, count, _TRIES, generator=generator)
    area = size[0] * size[1] * (scale[0] + (scale[1] - scale[0]) * draws[0])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(low + (high - low) * draws[1])
    return torch.stack([(area / aspect).sqrt(), (area * aspect).sqrt()], dim=-1).round().long()


def _random_corners(room: Tensor, generator: torch.Generator) -> Tensor:
    """A uniform corner in [0, room] for each row of ``room`` [count, 2]; 0 where there is none."""
    corners = torch.rand(room.shape, generator=generator) * (room + 1)
    return torch.minimum(corners.long(), room).clamp_(min=0)


def _first_where(valid: Tensor, candidates: Tensor) -> Tensor:
    """Of ``candidates`` [count, tries, 2] the first valid one (or the first, if none is)."""
    first = valid.int().argmax(dim=1)  # argmax returns the first of equal values
    return candidates[torch.arange(len(candidates)), first]
