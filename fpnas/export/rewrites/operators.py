"""Operators that a rewritten network calls and that PyTorch's exporter would write in other ways.

PyTorch's own pooling and broadcasting become ReduceMean and a bare Mul in ONNX. These two operators
compute the same in PyTorch and have a translation of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


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
