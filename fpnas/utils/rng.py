"""Random generators: the global ones of a run, and those derived from what they are used for."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy as np
import torch


def seed_all_rng(seed: int) -> None:
    """Seed the global generators of Python, NumPy and PyTorch (all devices).

    ``seed`` is in [0, 2^32), NumPy's range. Raises ValueError otherwise.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"A seed must be in [0, 2^32), found {seed}.")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def rng_state() -> dict[str, Any]:
    """The state of all global generators, as tensors, numbers and lists.

    These are the types that ``torch.load(weights_only=True)`` accepts.
    """
    version, words, python_gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    return {
        "python": {"version": version, "words": list(words), "gauss": python_gauss},
        "numpy": {
            "key": torch.from_numpy(numpy_state["state"]["key"].astype(np.int64)),
            "pos": int(numpy_state["state"]["pos"]),
            "has_gauss": int(numpy_state["has_gauss"]),
            "gauss": float(numpy_state["gauss"]),
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put all global generators into a ``state`` that :func:`rng_state` returned."""
    python = state["python"]
    random.setstate((python["version"], tuple(python["words"]), python["gauss"]))
    numpy_state = state["numpy"]
    np.random.set_state(
        {
            "bit_generator": "MT19937",
            "state": {
                "key": numpy_state["key"].numpy().astype(np.uint32),
                "pos": numpy_state["pos"],
            },
            "has_gauss": numpy_state["has_gauss"],
            "gauss": numpy_state["gauss"],
        }
    )
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


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
