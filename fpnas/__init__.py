"""fpnas: search, train, ship and use mobile networks; an open implementation of FP-NAS.

``get_cfg``, ``build_model`` and ``model_zoo`` are the usual entry points. They are imported on
first use, so that ``import fpnas`` and the command line start without loading PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fpnas.utils import scheme_providers

if TYPE_CHECKING:
    from fpnas import model_zoo
    from fpnas.config import get_cfg
    from fpnas.modeling import build_model

__version__ = "0.1.0"

__all__ = ["__version__", "build_model", "get_cfg", "model_zoo"]

scheme_providers.update({"zoo://": "fpnas.model_zoo", "pypi://": "fpnas.model_zoo"})


def __getattr__(name: str) -> Any:
    if name == "get_cfg":
        return importlib.import_module("fpnas.config").get_cfg
    if name == "build_model":
        return importlib.import_module("fpnas.modeling").build_model
    if name == "model_zoo":
        return importlib.import_module("fpnas.model_zoo")
    raise AttributeError(f"module 'fpnas' has no attribute '{name}'")
