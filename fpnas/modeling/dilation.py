"""Strides of the stages, and their limit by dilation: the same weights on a denser grid."""

from __future__ import annotations

from torch import nn

from fpnas.archs import Architecture
from fpnas.errors import ConfigError
from fpnas.layers import PaddedShortcut, SamePad


def stage_strides(arch: Architecture, output_stride: int = 0) -> dict[str, int]:
    """Input rows per output row of ``stem``, ``stage1``, ..., in order of execution.

    Args:
        arch: the architecture.
        output_stride: largest stride (see :func:`dilate`); 0: as designed.

    Raises ConfigError on an ``output_stride`` that the network does not pass through.
    """
    strides, passed, stride = {}, [1], 1
    for name, block, _ in list(arch.named_blocks())[:-1]:
        stride *= block.stride
        passed.append(stride)
        strides[name.split(".")[0]] = stride
    if output_stride and output_stride not in passed:
        valid = ", ".join(str(stride) for stride in sorted({0, *passed}))
        raise ConfigError(
            f"MODEL.OUTPUT_STRIDE is {output_stride}; valid for '{arch.name}': {valid}."
        )
    limit = output_stride or stride
    return {name: min(stride, limit) for name, stride in strides.items()}


def dilate(net: nn.Module, output_stride: int) -> None:
    """Let ``net`` stop shrinking its maps at ``output_stride``, for dense prediction. In place.

    Convolutions that would go beyond it take steps of one pixel, and those behind them read their
    input with gaps, so that every weight still meets pixels of the distance that it was trained
    for. Without attention, which pools whole maps, the first of every two (four, ...) rows and
    columns of the new output are exactly the old output; with padding "same" on even sizes it is
    the last of every two, as the designed grid lies there.

    Args:
        net: a network with ``arch``, or its first stages.
        output_stride: input rows per output row, one that the network passes through.

    Raises ConfigError on another ``output_stride``, and where a block shrinks its map by anything
    but convolutions.
    """
    stage_strides(net.arch, output_stride)
    present = {name for name, _ in net.named_children()}
    stride = rate = 1
    for name, block, _ in list(net.arch.named_blocks())[:-1]:
        stride *= block.stride
        if stride > output_stride and name.split(".")[0] in present:
            _dilate_block(net.get_submodule(name), name, rate, block.stride)
            rate *= block.stride


def _dilate_block(block: nn.Module, name: str, rate: int, stride: int) -> None:
    """Read the input of ``block`` with gaps of ``rate`` and do not shrink it by ``stride``."""
    _pad_symmetrically(block)
    for shortcut in [m for m in block.modules() if isinstance(m, PaddedShortcut)]:
        shortcut.dilate(rate)
    shrunk = 1
    for layer in block.modules():
        if isinstance(layer, nn.Conv2d):
            step = layer.stride[0]
            # A strided convolution still sees the block's own grid, also in a parallel branch.
            _dilate_conv(layer, name, rate if step > 1 else rate * shrunk)
            shrunk = max(shrunk, step)
        elif isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)) and layer.stride not in (1, (1, 1)):
            shrunk = 0
            break
    if shrunk != stride:
        raise ConfigError(
            f"MODEL.OUTPUT_STRIDE: '{name}' ({type(block).__name__}) shrinks its map by {stride} "
            "with more than one convolution or with something else, which cannot be dilated."
        )


def _dilate_conv(conv: nn.Conv2d, name: str, rate: int) -> None:
    if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
        raise ConfigError(
            f"MODEL.OUTPUT_STRIDE: a convolution in '{name}' pads with something else than a "
            "number of zeros, which cannot be dilated."
        )
    conv.stride = (1, 1)
    conv.padding = tuple(rows * rate for rows in conv.padding)
    if conv.kernel_size != (1, 1):
        conv.dilation = tuple(gap * rate for gap in conv.dilation)


def _pad_symmetrically(block: nn.Module) -> None:
    """TensorFlow's padding is the symmetric one where nothing shrinks."""
    for layer in block.modules():
        if isinstance(getattr(layer, "pad", None), SamePad):
            margin = layer.pad.kernel // 2
            layer.conv.padding = (margin, margin)
            del layer.pad
