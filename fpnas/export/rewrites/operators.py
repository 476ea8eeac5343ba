"""Single operators in the form that a runtime takes, and how PyTorch's exporter writes them.

PyTorch's own pooling and broadcasting become ReduceMean and a bare Mul in ONNX. The two operators
``fpnas::`` compute the same in PyTorch and have a translation of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fpnas.export.rewrites.modules import replace_modules

# Rows (columns) that the first step leaves at least.
_REST = 7


def use_global_pools(network: nn.Module) -> None:
    """Write global average pooling as pooling operators.

    The exporter writes ReduceMean, for which ONNX Runtime leaves its blocked channel layout. Two
    steps of pooling also add up fewer numbers at a time, hence round less. Replaces every
    ``AdaptiveAvgPool2d(1)``, which must get batches, ``[N, C, H, W]``.
    """
    replace_modules(
        network,
        nn.AdaptiveAvgPool2d,
        lambda pool: GlobalPool() if pool.output_size in (1, (1, 1)) else pool,
    )


class GlobalPool(nn.Module):
    """``[N, C, H, W] -> [N, C, 1, 1]``: AveragePool to about 7x7 where the map is larger, and
    GlobalAveragePool.

    The windows of the first step do not overlap and leave nothing out, so that the mean of their
    means is the mean of the map.
    """

    def forward(self, x: Tensor) -> Tensor:
        kernel = (_window(x.shape[2]), _window(x.shape[3]))
        return global_average_pool(F.avg_pool2d(x, kernel) if max(kernel) > 1 else x)


def _window(size: int) -> int:
    """The largest divisor of ``size`` that leaves at least ``_REST`` windows, else 1."""
    return next(k for k in range(max(size // _REST, 1), 0, -1) if size % k == 0)


def plain_hswish(network: nn.Module) -> None:
    """Write every ``nn.Hardswish`` and ``nn.Hardsigmoid`` out of Add, Clip and Mul.

    NNAPI and CoreML, as ONNX Runtime hands graphs to them, take neither HardSwish nor HardSigmoid,
    and the whole graph falls apart into pieces. ONNX Runtime's own kernels fuse HardSwish with the
    convolution before it, so that this form is slower on a CPU.
    """
    replace_modules(network, nn.Hardswish, lambda _: PlainHardswish())
    replace_modules(network, nn.Hardsigmoid, lambda _: PlainHardsigmoid())


class PlainHardswish(nn.Module):
    """``x clip(x + 3, 0, 6) / 6``, any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (F.relu6(x + 3) * (1 / 6))


class PlainHardsigmoid(nn.Module):
    """``clip(x + 3, 0, 6) / 6``, any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x + 3) * (1 / 6)


@torch.library.custom_op("fpnas::global_average_pool", mutates_args=())
def global_average_pool(x: Tensor) -> Tensor:
    """Mean over rows and columns: ``[N, C, H, W] -> [N, C, 1, 1]``."""
    return x.mean((2, 3), keepdim=True)


@global_average_pool.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1], 1, 1)


@torch.library.custom_op("fpnas::fill_map", mutates_args=())
def fill_map(values: Tensor, height: int, width: int) -> Tensor:
    """Each value on a whole map of its own: ``[N, C, 1, 1] -> [N, C, height, width]``."""
    return values.repeat(1, 1, height, width)


@fill_map.register_fake
def _(values: Tensor, height: int, width: int) -> Tensor:
    return values.new_empty(values.shape[0], values.shape[1], height, width)


def onnx_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """The argument ``custom_translation_table`` of ``torch.onnx.export`` for both operators."""
    from onnxscript import opset18 as op

    def write_global_average_pool(x: Any) -> Any:
        return op.GlobalAveragePool(x)

    def write_fill_map(values: Any, height: int, width: int) -> Any:
        # The one form of Resize that ONNX Runtime computes in its blocked channel layout.
        return op.Resize(
            values,
            None,
            op.Constant(value_floats=[1.0, 1.0, float(height), float(width)]),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    return {
        torch.ops.fpnas.global_average_pool.default: write_global_average_pool,
        torch.ops.fpnas.fill_map.default: write_fill_map,
    }
