"""Our backbones in detectron2. Importing this module registers ``build_fpnas_backbone``.

::

    from detectron2.config import get_cfg
    from fpnas.contrib.detectron2 import add_fpnas_config

    cfg = get_cfg()
    add_fpnas_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_fpnas_backbone"
    cfg.MODEL.FPNAS.ARCH = "efficientnet_lite0"
    cfg.MODEL.FPNAS.WEIGHTS = "zoo://efficientnet_lite0"

Published weights expect RGB images with the mean and standard deviation of their record:
``INPUT.FORMAT "RGB"``, ``MODEL.PIXEL_MEAN`` and ``MODEL.PIXEL_STD`` (times 255). For a feature
pyramid, hand the backbone to detectron2's ``FPN`` with ``in_features`` of our stage names.
"""

from __future__ import annotations

from torch import Tensor

from fpnas.config import get_cfg
from fpnas.errors import ConfigError
from fpnas.modeling import SearchedBackbone, build_model

try:
    from detectron2.config import CfgNode
    from detectron2.layers import ShapeSpec
    from detectron2.modeling import BACKBONE_REGISTRY, Backbone
except ImportError as error:
    raise ImportError(
        f"fpnas.contrib.detectron2 needs detectron2, which cannot be imported ({error}). Install "
        "it as its documentation says (facebookresearch/detectron2), or use the backbone of "
        "fpnas.build_model with torchvision's detectors."
    ) from error

# Of a classifier only; and the input's channels, which detectron2 knows.
_NOT_OURS = ("NUM_CLASSES", "DROPOUT", "IN_CHANNELS")


def add_fpnas_config(cfg: CfgNode) -> None:
    """Add ``cfg.MODEL.FPNAS``: the keys of fpnas' own MODEL section with their meaning.

    ``OUT_FEATURES`` is ("auto",) here. Ours are independent of detectron2's
    ``MODEL.BACKBONE.FREEZE_AT`` and ``MODEL.WEIGHTS``, which is for the whole detector.
    """
    keys = {key: value for key, value in get_cfg().MODEL.items() if key not in _NOT_OURS}
    cfg.MODEL.FPNAS = CfgNode({**keys, "OUT_FEATURES": ("auto",)})


class FpnasBackbone(Backbone):
    """A SearchedBackbone, ``body``, as detectron2's Backbone."""

    def __init__(self, body: SearchedBackbone) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """``[N, C, H, W]`` to the feature maps by name, high to low resolution."""
        return self.body(x)

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of every feature map."""
        return {
            name: ShapeSpec(channels=shape.channels, stride=shape.stride)
            for name, shape in self.body.output_shape().items()
        }

    @property
    def size_divisibility(self) -> int:
        return self.body.size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        return self.body.padding_constraints


@BACKBONE_REGISTRY.register()
def build_fpnas_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FpnasBackbone:
    """The backbone of ``cfg.MODEL.FPNAS`` for images of ``input_shape.channels`` channels.

    Raises ConfigError if the config was not prepared by :func:`add_fpnas_config`, and as
    :func:`fpnas.build_model`.
    """
    if "FPNAS" not in cfg.MODEL:
        raise ConfigError("The config has no MODEL.FPNAS; call add_fpnas_config(cfg) first.")
    own = get_cfg()
    own.merge_from_other_cfg({"MODEL": {**cfg.MODEL.FPNAS, "IN_CHANNELS": input_shape.channels}})
    if not own.MODEL.OUT_FEATURES:
        raise ConfigError("MODEL.FPNAS.OUT_FEATURES is empty; give names of stages, or ('auto',).")
    return FpnasBackbone(build_model(own))
