"""Channel counts that follow from a ratio."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

# One architecture's numbers, or a column of K architectures' numbers.
Numbers = TypeVar("Numbers", int, Tensor)


def round_channels(channels: float | Tensor, divisor: int = 8) -> int | Tensor:
    """``channels`` rounded half up to a multiple of ``divisor``, as the FBNet family does.

    At least ``divisor``; one step higher when rounding would lose over 5 %. Takes a number or a
    tensor of numbers, so that one formula serves single architectures and batches of them.
    """
    if isinstance(channels, Tensor):
        exact = channels.double()
        rounded = torch.floor(exact / divisor + 0.5) * divisor
        rounded = rounded + divisor * (rounded < 0.95 * exact)
        return rounded.clamp(min=divisor).long()
    rounded = int(channels / divisor + 0.5) * divisor
    rounded += divisor * (rounded < 0.95 * channels)
    return max(rounded, divisor)
