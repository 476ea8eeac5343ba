"""Renames a foreign state dict to ours, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from fpnas.archs import Architecture
from fpnas.errors import CheckpointError
from fpnas.modeling import SearchedNet

#: From one of our names to the foreign one; None if the other project has no such weight.
ForeignName = Callable[[str], str | None]

_COUNTER = ".num_batches_tracked"
_SHOWN = 20


def rename(
    foreign: Mapping[str, Tensor], foreign_name: ForeignName, arch: Architecture
) -> dict[str, Tensor]:
    """The weights of ``arch`` under our names, taken from ``foreign``; every one is used.

    A linear layer may be stored as a 1x1 convolution and the other way round. BatchNorm's counter
    of batches, which nothing reads here, may be missing and is then 0.

    Raises CheckpointError, which lists what is missing, left over or of another shape.
    """
    weights: dict[str, Tensor] = {}
    used, missing, reshaped = set(), [], []
    for name, own in own_weights(arch).items():
        source = foreign_name(name)
        value = None if source is None else foreign.get(source)
        if value is None and name.endswith(_COUNTER):
            weights[name] = torch.zeros((), dtype=torch.long)
        elif value is None:
            missing.append(f"{source or 'no counterpart'} (our {name})")
        elif _significant(value.shape) != _significant(own.shape):
            reshaped.append(f"{source} {tuple(value.shape)} (our {name} {tuple(own.shape)})")
        else:
            weights[name] = value.detach().reshape(own.shape).contiguous()
        used.add(source)
    left_over = [source for source in foreign if source not in used]
    problems = {"missing": missing, "of another shape": reshaped, "left over": left_over}
    if any(problems.values()):
        listed = "; ".join(_listed(kind, names) for kind, names in problems.items() if names)
        raise CheckpointError(
            f"The weights do not fit the architecture '{arch.name}'; nothing was imported. "
            f"{listed}."
        )
    return weights


def own_weights(arch: Architecture) -> dict[str, Tensor]:
    """Our names of the weights of ``arch`` with their shapes; holds no data."""
    with torch.device("meta"):
        return SearchedNet(arch).state_dict()


def _significant(shape: torch.Size) -> list[int]:
    """The shape without trailing ones: [O, I] and [O, I, 1, 1] are the same weights."""
    sizes = list(shape)
    while sizes and sizes[-1] == 1:
        sizes.pop()
    return sizes


def _listed(kind: str, names: list[str]) -> str:
    more = len(names) - _SHOWN
    shown = ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return f"{kind}: {shown}"
