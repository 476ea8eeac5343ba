"""SearchedBackbone: the stages of a network, as detection and segmentation want them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fpnas.archs import Architecture
from fpnas.config.checks import check_name
from fpnas.errors import ConfigError
from fpnas.modeling.dilation import dilate, stage_strides
from fpnas.modeling.searched_net import SearchedNet

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
    :func:`fpnas.modeling.dilation.stage_strides`.
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
