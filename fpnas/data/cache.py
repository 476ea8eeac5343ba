"""Decoding a whole image set once, in parallel threads, and keeping it as uint8 in memory."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from tqdm import tqdm

from fpnas.config import CfgNode
from fpnas.data.decode import naming_remedy, try_decode
from fpnas.data.image_set import ImageSet, TensorImages
from fpnas.data.preprocessing import preprocessing
from fpnas.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

_CHUNK = 64  # images a task: enough to make the cost of a task irrelevant
_MEGABYTE = 1e6


class _SizeMismatch(Exception):
    """An image differs in size from the ones before it."""


def cache_images(image_set: ImageSet, cfg: CfgNode) -> ImageSet:
    """``image_set`` decoded into memory, or ``image_set`` itself, as DATA.CACHE says.

    "auto": cached if all images have the same size and fit into DATA.CACHE_LIMIT; read from disk
    otherwise. "always": images of unequal size, or too large for the limit, are cached at a common
    size: shorter side DATA.INPUT_SIZE / DATA.CROP_RATIO, centre crop to a square, which is what
    evaluation would do, too. Training crops are then taken from that square. "never": read from
    disk. A set that is held in memory already stays as it is.

    Unreadable images are found here: the first one raises DataError, which names the file, or with
    DATA.SKIP_CORRUPT they are left out and counted in one warning.

    Raises ConfigError if "always" does not fit into the limit.
    """
    if image_set.in_memory or cfg.DATA.CACHE == "never":
        return image_set
    limit = cfg.DATA.CACHE_LIMIT * _MEGABYTE
    skip_corrupt = cfg.DATA.SKIP_CORRUPT
    height, width = _first_size(image_set, skip_corrupt)
    if _num_bytes(image_set, height, width) <= limit:
        try:
            return _decode_all(image_set, image_set.image, (height, width), skip_corrupt)
        except _SizeMismatch as mismatch:
            reason = str(mismatch)
    else:
        needed = _num_bytes(image_set, height, width) / _MEGABYTE
        reason = f"at {height} x {width} px they need {needed:,.0f} MB"
    if cfg.DATA.CACHE == "auto":
        logger.info(
            "%d images are read from disk as they are needed, not cached: %s.",
            *(len(image_set), reason),
        )
        return image_set
    return _cache_at_common_size(image_set, cfg)


def _cache_at_common_size(image_set: ImageSet, cfg: CfgNode) -> ImageSet:
    geometry = preprocessing(cfg)
    side = geometry.resize_to
    needed = _num_bytes(image_set, side, side) / _MEGABYTE
    if needed > cfg.DATA.CACHE_LIMIT:
        raise ConfigError(
            f"DATA.CACHE is 'always', but {len(image_set)} images of {side} x {side} px need "
            f"{needed:,.0f} MB and DATA.CACHE_LIMIT is {cfg.DATA.CACHE_LIMIT} MB. Raise the limit "
            "or set DATA.CACHE to 'auto'."
        )

    def decode(index: int) -> Tensor:
        return F.center_crop(geometry.resize(image_set.image(index)), [side, side])

    return _decode_all(image_set, decode, (side, side), cfg.DATA.SKIP_CORRUPT)


def _num_bytes(image_set: ImageSet, height: int, width: int) -> int:
    return len(image_set) * 3 * height * width


def _first_size(image_set: ImageSet, skip_corrupt: bool) -> tuple[int, int]:
    """Height and width of the first readable image."""
    for index in range(len(image_set)):
        image = try_decode(image_set.image, index)
        if isinstance(image, Tensor):
            return image.shape[-2], image.shape[-1]
        if not skip_corrupt:
            raise naming_remedy(image)
    raise DataError(f"None of {len(image_set)} images is readable, {image_set.name(0)} for one.")


def _decode_all(
    image_set: ImageSet,
    decode: Callable[[int], Tensor],
    size: tuple[int, int],
    skip_corrupt: bool,
) -> ImageSet:
    """All readable images in one tensor. Raises _SizeMismatch as soon as one has another size."""
    start = time.perf_counter()
    pixels = torch.empty(len(image_set), 3, *size, dtype=torch.uint8)

    def decode_chunk(first: int) -> list[tuple[int, DataError]]:
        unreadable = []
        for index in range(first, min(first + _CHUNK, len(image_set))):
            image = try_decode(decode, index)
            if isinstance(image, DataError):
                if not skip_corrupt:
                    raise naming_remedy(image)
                unreadable.append((index, image))
            elif image.shape[-2:] != pixels.shape[-2:]:
                raise _SizeMismatch(
                    f"their sizes differ (the first has {size[0]} x {size[1]} px, "
                    f"{image_set.name(index)} has {image.shape[-2]} x {image.shape[-1]})"
                )
            else:
                pixels[index] = image
        return unreadable

    unreadable = _map_chunks(decode_chunk, len(image_set))
    logger.info("Decoded %d images in %.1f s.", len(image_set), time.perf_counter() - start)
    names = [image_set.name(index) for index in range(len(image_set))]
    cached = TensorImages(pixels, image_set.labels, image_set.classes, names)
    if not unreadable:
        return cached
    logger.warning(
        "%d of %d images are unreadable and left out (DATA.SKIP_CORRUPT). The first: %s",
        *(len(unreadable), len(image_set), unreadable[0][1]),
    )
    readable = torch.ones(len(image_set), dtype=torch.bool)
    readable[[index for index, _ in unreadable]] = False
    return cached.subset(torch.nonzero(readable).flatten())


def _map_chunks(
    work: Callable[[int], list[tuple[int, DataError]]], count: int
) -> list[tuple[int, DataError]]:
    """``work(first)`` for every chunk, in threads, with a progress bar on a terminal."""
    results: list[tuple[int, DataError]] = []
    pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="decode")
    try:
        chunks = pool.map(work, range(0, count, _CHUNK))
        with tqdm(total=count, desc="Decoding", unit=" images", disable=None, leave=False) as bar:
            for result in chunks:
                results += result
                bar.update(min(_CHUNK, count - bar.n))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return results
