"""What detectron2 asks of a backbone, with a stand-in written from its documentation."""

from __future__ import annotations

import importlib
import itertools
import sys
import types
from abc import ABCMeta, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from fvcore.common.config import CfgNode
from fvcore.common.registry import Registry
from torch import Tensor, nn
from torch.nn import functional as F

from fpnas.archs import get_arch
from fpnas.errors import ConfigError
from fpnas.modeling import SearchedNet

ADAPTER = "fpnas.contrib.detectron2"


# The interface, from https://detectron2.readthedocs.io: modules/modeling, modules/layers.
@dataclass
class ShapeSpec:
    """Shape of a tensor, each number optional."""

    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None


class Backbone(nn.Module, metaclass=ABCMeta):
    """``forward(x)``: images to {name: map}; ``output_shape()``: {name: ShapeSpec}."""

    @abstractmethod
    def forward(self): ...

    @property
    def size_divisibility(self) -> int:
        return 0

    @property
    def padding_constraints(self) -> dict[str, int]:
        return {}


class Pyramid(Backbone):
    """What detectron2's FPN asks of the backbone below it."""

    def __init__(self, bottom_up: Backbone, in_features: list[str], out_channels: int) -> None:
        super().__init__()
        assert isinstance(bottom_up, Backbone)
        shapes = bottom_up.output_shape()
        strides = [shapes[name].stride for name in in_features]
        assert all(b == 2 * a for a, b in itertools.pairwise(strides))
        self.bottom_up, self.in_features, self.strides = bottom_up, in_features, strides
        self.lateral = nn.ModuleList(
            nn.Conv2d(shapes[name].channels, out_channels, 1) for name in in_features
        )

    @property
    def size_divisibility(self) -> int:
        return self.strides[-1]

    def forward(self, x: Tensor) -> list[Tensor]:
        features = self.bottom_up(x)
        above, outputs = None, []
        for name, conv in zip(self.in_features[::-1], self.lateral[::-1], strict=True):
            above = conv(features[name]) + (0 if above is None else F.interpolate(above, None, 2.0))
            outputs.insert(0, above)
        return outputs


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """detectron2's BACKBONE_REGISTRY, with our adapter imported."""
    backbones = Registry("BACKBONE")
    contents = {
        "detectron2": {},
        "detectron2.config": {"CfgNode": CfgNode},
        "detectron2.layers": {"ShapeSpec": ShapeSpec},
        "detectron2.modeling": {"BACKBONE_REGISTRY": backbones, "Backbone": Backbone},
    }
    for name, members in contents.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, ADAPTER, raising=False)
    importlib.import_module(ADAPTER)
    yield backbones
    sys.modules.pop(ADAPTER, None)


@pytest.fixture
def cfg(registry: Registry) -> CfgNode:
    """detectron2's config as far as it matters here, prepared for us."""
    cfg = CfgNode()
    cfg.MODEL = CfgNode()
    cfg.MODEL.BACKBONE = CfgNode({"NAME": "build_fpnas_backbone", "FREEZE_AT": 2})
    cfg.MODEL.PIXEL_MEAN = [103.53, 116.28, 123.675]
    sys.modules[ADAPTER].add_fpnas_config(cfg)
    cfg.MODEL.FPNAS.ARCH = "fbnetv2_f1"
    return cfg


def build_backbone(cfg: CfgNode, registry: Registry) -> Backbone:
    """As detectron2 does."""
    shape = ShapeSpec(channels=len(cfg.MODEL.PIXEL_MEAN))
    backbone = registry.get(cfg.MODEL.BACKBONE.NAME)(cfg, shape)
    assert isinstance(backbone, Backbone)
    return backbone


def test_shapes_are_what_comes_out(cfg, registry):
    backbone = build_backbone(cfg, registry)
    shapes = backbone.output_shape()
    assert [spec.stride for spec in shapes.values()] == [8, 16, 32]
    assert {type(spec) for spec in shapes.values()} == {ShapeSpec}
    features = backbone(torch.zeros(2, 3, 64, 96))
    assert list(features) == list(shapes)
    for name, feature in features.items():
        stride = shapes[name].stride
        assert feature.shape == (2, shapes[name].channels, 64 // stride, 96 // stride)
    assert backbone.size_divisibility == 0 and backbone.padding_constraints == {}


def test_a_pyramid_stands_on_it(cfg, registry):
    bottom_up = build_backbone(cfg, registry)
    pyramid = Pyramid(bottom_up, list(bottom_up.output_shape()), 16)
    size = 2 * pyramid.size_divisibility
    outputs = pyramid(torch.zeros(1, 3, size, size))
    assert [output.shape[-1] for output in outputs] == [8, 4, 2]


def test_keys_have_their_meaning(cfg, registry, tmp_path, caplog):
    torch.manual_seed(0)
    source = SearchedNet(get_arch("fbnetv2_f1"))
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    cfg.merge_from_list(
        [
            *("MODEL.FPNAS.OUT_FEATURES", "['stage2', 'stage3']"),
            *("MODEL.FPNAS.WEIGHTS", str(tmp_path / "weights.pth")),
            *("MODEL.FPNAS.NORM", "FrozenBN", "MODEL.FPNAS.FREEZE_STAGES", 1),
            *("MODEL.PIXEL_MEAN", [100.0]),
        ]
    )
    backbone = build_backbone(cfg, registry)
    assert list(backbone.output_shape()) == ["stage2", "stage3"]
    kernel = source.stem.conv.weight.sum(1, keepdim=True)  # one channel: the sum of three
    assert torch.equal(backbone.body.stem.conv.weight, kernel)
    assert torch.equal(
        backbone.body.stage2[0].project.conv.weight, source.stage2[0].project.conv.weight
    )
    assert "stage4" in caplog.text and "to 1 input channels" in caplog.text
    trainable = {n.split(".")[1] for n, p in backbone.named_parameters() if p.requires_grad}
    assert trainable == {"stage2", "stage3"}


def test_unprepared_configs(cfg, registry):
    cfg.MODEL.FPNAS.OUT_FEATURES = ()
    with pytest.raises(ConfigError, match=r"MODEL\.FPNAS\.OUT_FEATURES"):
        build_backbone(cfg, registry)
    del cfg.MODEL["FPNAS"]
    with pytest.raises(ConfigError, match="add_fpnas_config"):
        build_backbone(cfg, registry)


def test_without_detectron2(monkeypatch):
    monkeypatch.setitem(sys.modules, "detectron2.config", None)  # as if it were not there
    monkeypatch.delitem(sys.modules, ADAPTER, raising=False)
    with pytest.raises(ImportError, match="needs detectron2"):
        importlib.import_module(ADAPTER)
