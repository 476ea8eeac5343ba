"""Channel counts that follow from a ratio."""

from __future__ import annotations


def round_channels(channels: float, divisor: int = 8) -> int:
    """``channels`` rounded half up to a multiple of ``divisor``, as the FBNet family does.

    At least ``divisor``; one step higher when rounding would lose over 5 %.
    """
    rounded = int(channels / divisor + 0.5) * divisor
    rounded += divisor * (rounded < 0.95 * channels)
    return max(rounded, divisor)
