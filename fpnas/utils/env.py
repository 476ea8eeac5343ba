"""Where a run happens: the state of the random generators, and a description of the machine."""

from __future__ import annotations

import os
import platform
import random
import sys
from importlib import metadata
from typing import Any

import numpy as np
import torch
from tabulate import tabulate


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


def environment_info() -> str:
    """A short table of what determines speed and numerics: versions, processors, threads."""
    rows = [
        ("platform", platform.platform()),
        ("python", sys.version.split()[0]),
        *((name, _version(name)) for name in ("fpnas", "torch", "torchvision", "numpy", "fvcore")),
        ("cpu", cpu_info()),
        ("torch threads", str(torch.get_num_threads())),
        ("cpu capability", torch.backends.cpu.get_cpu_capability()),
    ]
    for index in range(torch.cuda.device_count()):
        rows.append((f"gpu {index}", torch.cuda.get_device_name(index)))
    return tabulate(rows, tablefmt="plain")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed as a package"


def cpu_info() -> str:
    """Model and number of logical processors of this machine."""
    return f"{_cpu_model()}, {os.cpu_count()} logical"


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()
