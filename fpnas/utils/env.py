"""Where a run happens: the machine and the versions."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata

import torch
from tabulate import tabulate


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
