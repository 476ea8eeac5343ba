"""Reader of idx files, the format of MNIST and Fashion-MNIST, compressed by gzip or not."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fpnas.errors import DataError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_UNSIGNED_BYTE = 0x08
_GZIP_MAGIC = b"\x1f\x8b"


def read_idx(file: Path | Traversable) -> Tensor:
    """The uint8 tensor in ``file``; its number of dimensions and its shape are in the header.

    Raises DataError, which names the file, if it cannot be read or is no idx file of bytes.
    """
    try:
        data = file.read_bytes()
        if data.startswith(_GZIP_MAGIC):
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} cannot be read: {error}") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != _UNSIGNED_BYTE:
        raise DataError(
            f"{file} is no idx file of bytes: it starts with {data[:4].hex() or 'nothing'}, "
            "expected 000008 and the number of dimensions."
        )
    header_size = 4 + 4 * data[3]
    if len(data) < header_size:
        raise DataError(f"{file} ends inside its header, after {len(data)} bytes.")
    shape = struct.unpack(f">{data[3]}I", data[4:header_size])
    if len(data) - header_size != math.prod(shape):
        raise DataError(
            f"{file} announces {' x '.join(map(str, shape))} bytes but holds "
            f"{len(data) - header_size}."
        )
    # bytearray: torch wants a buffer that it may write to.
    content = bytearray(data[header_size:])
    if not content:
        return torch.empty(shape, dtype=torch.uint8)
    return torch.frombuffer(content, dtype=torch.uint8).reshape(shape)
