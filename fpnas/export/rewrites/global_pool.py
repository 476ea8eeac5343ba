"""Global average pooling as pooling operators.

The exporter writes ReduceMean, for which ONNX Runtime leaves its blocked channel layout. Two steps
of pooling also add up fewer numbers at a time, hence round less.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from fpnas.export.rewrites.modules import replace_modules
from fpnas.export.rewrites.operators import global_average_pool

# Rows (columns) that the first step leaves at least.
_REST = 7


class GlobalPool(nn.Module):
    """``[N, C, H, W] -> [N, C, 1, 1]``: AveragePool to about 7x7 where the map is larger, and
    GlobalAveragePool.

    The windows of the first step do not overlap and leave nothing out, so that the mean of their
    means is the mean of the map.
    """

    def forward(self, x: Tensor) -> Tensor:
        kernel = (_window(x.shape[2]), _window(x.shape[3]))
        return global_average_pool(F.avg_pool2d(x, kernel) if max(kernel) > 1 else x)


def use_global_pools(network: nn.Module) -> None:
    """Replace every ``AdaptiveAvgPool2d(1)``. Such a pool must get batches, ``[N, C, H, W]``."""
    replace_modules(
        network,
        nn.AdaptiveAvgPool2d,
        lambda pool: GlobalPool() if pool.output_size in (1, (1, 1)) else pool,
    )


def _window(size: int) -> int:
    """The largest divisor of ``size`` that leaves at least ``_REST`` windows, else 1."""
    return next(k for k in range(max(size // _REST, 1), 0, -1) if size % k == 0)
