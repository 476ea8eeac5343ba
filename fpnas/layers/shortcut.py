"""A shortcut past any block, without weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PaddedShortcut(nn.Module):
    """Adds a block's input to its output, whatever the shapes of the two, without weights.

    ``[N, in_channels, H, W]`` and ``[N, out_channels, (H - 1) // stride + 1, ...]`` to the latter.
    Maps shrink by their mean over ``stride`` x ``stride`` px, as in ResNet-D [He et al. 2019]; at
    the lower and right edge it is that of the pixels that are there. Channels are filled up with
    zeros, as in ResNet's option A [He et al. 2016, section 3.3], or cut.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.pool = (
            nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)
            if stride > 1
            else nn.Identity()
        )
        self.shared = min(in_channels, out_channels)
        self.cuts = in_channels > out_channels
        self.extra = max(out_channels - in_channels, 0)

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        x = self._shrunk(x)
        if self.extra == 0:
            return x + out
        # The same as adding resized(x), but CoreML pads no channels.
        return torch.cat([x + out[:, : self.shared], out[:, self.shared :]], 1)

    def resized(self, x: Tensor) -> Tensor:
        """What is added: the block's input ``x`` in the shape of its output."""
        x = self._shrunk(x)
        return F.pad(x, [0, 0, 0, 0, 0, self.extra]) if self.extra else x

    def _shrunk(self, x: Tensor) -> Tensor:
        x = self.pool(x)
        return x[:, : self.shared] if self.cuts else x

    def dilate(self, gap: int) -> None:
        """Take the same means of pixels that are ``gap`` px apart, one for every pixel."""
        if self.stride > 1:
            self.pool = DilatedMean(self.stride, gap)


class DilatedMean(nn.Module):
    """Mean of ``size`` x ``size`` px, each ``gap`` px from the next, downwards and to the right.

    ``[N, C, H, W]`` in and out. Pixels beyond the edge do not count.
    """

    def __init__(self, size: int, gap: int) -> None:
        super().__init__()
        self.size = size
        self.gap = gap

    def forward(self, x: Tensor) -> Tensor:
        return self._sum(x) / self._sum(torch.ones_like(x[:1, :1]))

    def _sum(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        starts = range(0, self.size * self.gap, self.gap)
        x = F.pad(x, [0, starts[-1], 0, starts[-1]])
        rows = torch.stack([x[:, :, i : i + height] for i in starts]).sum(0)
        return torch.stack([rows[..., i : i + width] for i in starts]).sum(0)
