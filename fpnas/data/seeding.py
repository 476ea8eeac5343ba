"""Random generators derived from what they are used for, never from torch's global state."""

from __future__ import annotations

import hashlib

import torch


def derive_seed(*key: int | str) -> int:
    """A seed in [0, 2^32) that is a pure function of ``key``, such as (seed, "order", epoch).

    Hashing keeps the streams of neighbouring keys unrelated. 32 bits, because torch's CPU generator
    uses no more of its seed.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def generator_for(*key: int | str) -> torch.Generator:
    """A CPU generator seeded with ``derive_seed(*key)``."""
    return torch.Generator().manual_seed(derive_seed(*key))
