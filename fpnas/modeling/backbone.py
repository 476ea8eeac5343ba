"""SearchedBackbone: the stages of a network, as detection and segmentation want them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fpnas.archs import Architecture
from fpnas.config.checks import check_name
from fpnas.errors import ConfigError
from fpnas.layers import PaddedShortcut, SamePad
from fpnas.modeling.searched_net import SearchedNet


def stage_strides(arch: Architecture, output_stride: int = 0) -> dict[str, int]:
    """Input rows per output row of ``stem``, ``stage1``, ..., in order of execution.

    ``output_stride`` is the largest (see :func:`dilate`); 0: as designed. Raises ConfigError on one
    that the network does not pass through.
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
    for layer in block.modules():
        # TensorFlow's padding is the symmetric one where nothing shrinks.
        if isinstance(getattr(layer, "pad", None), SamePad):
            margin = layer.pad.kernel // 2
            layer.conv.padding = (margin, margin)
            del layer.pad
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


AUTO = "auto"
_AUTO_COUNT = 3


@dataclass(frozen=True)
class ShapeSpec:
    """Channels of a feature map, and input rows per row of it."""

    channels: int
    stride: int


class FeatureInfo(list[dict[str, Any]]):
    """One dict for each feature map, high to low resolution, with timm's keys.

    ``num_chs`` (channels), ``reduction`` (input rows per row) and ``module`` (name of the stage).
    """

    def channels(self, index: int | None = None) -> Any:
        """Channels of map ``index``; None: a list of all."""
        return self._get("num_chs", index)

    def reduction(self, index: int | None = None) -> Any:
        """Stride of map ``index``; None: a list of all."""
        return self._get("reduction", index)

    def module_name(self, index: int | None = None) -> Any:
        """Name of the stage that ends in map ``index``; None: a list of all."""
        return self._get("module", index)

    def _get(self, key: str, index: int | None) -> Any:
        return [entry[key] for entry in self] if index is None else self[index][key]


class SearchedBackbone(nn.Module):
    """``[N, in_channels, H, W] -> {name: [N, C, H / stride, W / stride]}``, high to low resolution.

    The children ``stem``, ``stage1``, ... stand flat and in order of execution, up to the last one
    asked for. Their weights have the names that they have in the classifier. Any image size fits;
    maps have ``(H - 1) // stride + 1`` rows.

    Attributes:
        arch: the architecture, whose head and last stages may be missing here.
        out_features: names of the outputs.
        feature_info: the outputs in timm's terms.
    """

    # Plain Python about the network, which TorchScript passes over.
    __jit_unused_properties__ = ("padding_constraints", "size_divisibility")

    def __init__(self, net: SearchedNet, out_features: Sequence[str] | str, output_stride: int = 0):
        """
        Args:
            net: gives away its stem and stages, and is not to be used any more.
            out_features: names such as ``("stage2", "stage4")``, also ``"stem"``; or ``("auto",)``:
                the last stage of each of the three largest strides, for the usual networks 8, 16
                and 32.
            output_stride: dilate what would shrink the maps more; 0: as designed.

        Raises ConfigError on a name or a stride that the network does not have.
        """
        super().__init__()
        self.arch = net.arch
        self.out_features = resolve_features(net.arch, out_features, output_stride)
        for name, stage in net.named_children():
            self.add_module(name, stage)
            if name == self.out_features[-1]:
                break
        if output_stride:
            dilate(self, output_stride)
        strides = stage_strides(net.arch, output_stride)
        channels = {name.split(".")[0]: b.channels for name, b, _ in net.arch.named_blocks()}
        self.feature_info = FeatureInfo(
            {"num_chs": channels[name], "reduction": strides[name], "module": name}
            for name in self.out_features
        )
        self.train(net.training)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features: dict[str, Tensor] = {}
        for name, stage in self.named_children():
            x = stage(x)
            if name in self.out_features:
                features[name] = x
        return features

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of every output."""
        return {
            entry["module"]: ShapeSpec(entry["num_chs"], entry["reduction"])
            for entry in self.feature_info
        }

    @property
    def size_divisibility(self) -> int:
        """What image sizes must be multiples of, in detectron2's terms; 0: of nothing."""
        return 0

    @property
    def padding_constraints(self) -> dict[str, int]:
        """What padding must see to, in detectron2's terms: nothing."""
        return {}


def last_stages(arch: Architecture, output_stride: int = 0) -> dict[int, str]:
    """The last stage of each stride, in order of execution: ``{8: "stage3", 16: "stage5", ...}``.

    The last one has seen most; it is what feature pyramids take. Arguments as those of
    :func:`stage_strides`.
    """
    strides = stage_strides(arch, output_stride)
    return {stride: name for name, stride in strides.items() if name != "stem"}


def resolve_features(
    arch: Architecture, names: Sequence[str] | str, output_stride: int = 0
) -> list[str]:
    """``names`` in order of execution, ``("auto",)`` replaced by what it stands for.

    A name alone stands for a tuple of it. Raises ConfigError on none, an unknown one, and one that
    is named twice.
    """
    if not isinstance(names, (list, tuple)):
        names = (names,)
    if tuple(names) == (AUTO,):
        return list(last_stages(arch, output_stride).values())[-_AUTO_COUNT:]
    valid = list(stage_strides(arch, output_stride))
    for name in names:
        check_name(f"MODEL.OUT_FEATURES for '{arch.name}'", name, [*valid, AUTO])
    if not names or len(set(names)) < len(names) or AUTO in names:
        raise ConfigError(
            f"MODEL.OUT_FEATURES is {tuple(names)!r}; valid: some of {', '.join(valid)}, each "
            f"once, or '{AUTO}' alone."
        )
    return [name for name in valid if name in names]
