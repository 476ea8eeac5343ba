"""The contract of a backbone, and what torchvision and timm make of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from backbone_cases import config, small_arch, small_net
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.feature_extraction import create_feature_extractor

from fpnas import archs, model_zoo
from fpnas.archs import get_arch
from fpnas.blocks import ConvSpec, HeadSpec, MBConvSpec
from fpnas.errors import ConfigError
from fpnas.modeling import SearchedBackbone, SearchedNet, ShapeSpec, build_model, last_stages

# Other tests register architectures of their own.
SHIPPED = sorted(file.stem for file in (Path(archs.__file__).parent / "named").glob("*.yaml"))


@pytest.fixture
def arch_file(tmp_path) -> str:
    small_arch().save(tmp_path / "small.yaml")
    return str(tmp_path / "small.yaml")


def small_backbone(*names: str, **keys: int) -> SearchedBackbone:
    return SearchedBackbone(small_net(), names, **keys)


def test_features_are_those_of_the_classifier(arch_file):
    torch.manual_seed(0)
    x, expected = torch.randn(2, 3, 65, 96), {}
    y = x
    for name, child in list(small_net().named_children())[:-1]:
        y = expected[name] = child(y)
    features = small_backbone("stage6", "stem", "stage3")(x)
    assert list(features) == ["stem", "stage3", "stage6"]  # high to low resolution
    for name, feature in features.items():
        assert torch.equal(feature, expected[name])
    backbone = build_model(config(ARCH=arch_file, OUT_FEATURES=("stage3",)))
    assert isinstance(backbone, SearchedBackbone) and backbone.training
    assert isinstance(build_model(config(ARCH=arch_file)), SearchedNet)


def test_detectron2_s_terms():
    backbone = small_backbone("stage2", "stage5", "stage6")
    shapes = backbone.output_shape()
    assert list(shapes.items()) == [
        ("stage2", ShapeSpec(12, 4)),
        ("stage5", ShapeSpec(24, 16)),
        ("stage6", ShapeSpec(32, 32)),
    ]
    for size in (64, 75):  # of any size, so nothing must be divisible
        for name, feature in backbone(torch.zeros(1, 3, size, size)).items():
            side = (size - 1) // shapes[name].stride + 1
            assert feature.shape == (1, shapes[name].channels, side, side)
    assert backbone.size_divisibility == 0
    assert backbone.padding_constraints == {}


def test_weights_have_the_classifier_s_names_and_nothing_idle():
    whole = small_net().state_dict()
    backbone = small_backbone("stage2", "stage6")
    assert list(backbone.state_dict()) == [n for n in whole if not n.startswith("head.")]
    short = small_backbone("stage2")
    assert [name for name, _ in short.named_children()] == ["stem", "stage1", "stage2"]
    sum(f.sum() for f in short.train()(torch.randn(2, 3, 64, 64)).values()).backward()
    assert all(p.grad is not None for p in short.parameters())


def test_auto_takes_the_last_stages_of_the_three_largest_strides():
    assert last_stages(small_arch()) == {
        2: "stage1", 4: "stage2", 8: "stage3", 16: "stage5", 32: "stage6"
    }  # fmt: skip
    assert last_stages(small_arch(), 16) == {
        2: "stage1", 4: "stage2", 8: "stage3", 16: "stage6"
    }  # fmt: skip
    assert small_backbone("auto").out_features == ["stage3", "stage5", "stage6"]
    dilated = small_backbone("auto", output_stride=16)
    assert dilated.feature_info.reduction() == [4, 8, 16]


def test_feature_info_is_timm_s():
    info = small_backbone("stage3", "stage6").feature_info
    assert info == [
        {"num_chs": 16, "reduction": 8, "module": "stage3"},
        {"num_chs": 32, "reduction": 32, "module": "stage6"},
    ]
    assert (info.channels(0), info.reduction(1), info.module_name(1)) == (16, 32, "stage6")
    with torch.device("meta"):
        theirs = timm.create_model("tf_efficientnet_lite0", features_only=True).feature_info
        arch = get_arch("efficientnet_lite0")
        ours = SearchedBackbone(SearchedNet(arch), list(last_stages(arch).values())).feature_info
    assert ours.channels() == theirs.channels()
    assert ours.reduction() == theirs.reduction()


@torch.no_grad()
def test_every_network_of_the_zoo_in_torchvision():
    """The five lines of docs/backbones.md."""
    x = torch.zeros(1, 3, 64, 64)
    for name in SHIPPED:
        backbone = model_zoo.get(name, out_features=("auto",))
        info = backbone.feature_info
        names = info.module_name()
        fpn = BackboneWithFPN(backbone, {n: n for n in names}, info.channels(), 96)
        extractor = create_feature_extractor(backbone, names)
        strides = [2, 4, 8] if get_arch(name).input_size <= 32 else [8, 16, 32]
        assert info.reduction() == strides, name
        pyramid = {n: tuple(f.shape) for n, f in fpn(x).items()}
        sides = {n: 64 // stride for n, stride in zip(names, strides, strict=True)}
        sides["pool"] = 64 // strides[-1] // 2
        assert pyramid == {n: (1, 96, side, side) for n, side in sides.items()}, name
        features = {n: tuple(f.shape) for n, f in extractor(x).items()}
        shapes = backbone.output_shape()
        assert features == {
            n: (1, s.channels, 64 // s.stride, 64 // s.stride) for n, s in shapes.items()
        }, name


def test_torchvision_s_extractors_compute_the_same():
    net, x = small_net(small_arch("same", splits=2)), torch.randn(2, 3, 64, 50)
    getter = IntermediateLayerGetter(net, {"stage3": "a", "stage6": "b"})(x)
    extractor = create_feature_extractor(net, {"stage3": "a", "stage6": "b"})(x)
    backbone = SearchedBackbone(net, ["stage3", "stage6"])
    of_backbone = create_feature_extractor(backbone, {"stage3": "a", "stage6": "b"})(x)
    for name, feature in zip("ab", backbone(x).values(), strict=True):
        for other in (getter, extractor, of_backbone):
            assert torch.equal(other[name], feature)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_backbone():
    backbone, x = small_backbone("stage3", "stage6"), torch.randn(1, 3, 64, 64)
    for name, feature in torch.jit.script(backbone)(x).items():
        torch.testing.assert_close(feature, backbone(x)[name])


@pytest.mark.parametrize("eps", [1e-5, 1e-3])
def test_bn_eps(eps):
    backbone = SearchedBackbone(SearchedNet(small_arch(bn_eps=eps)), ("stage6",), 16)
    assert {m.eps for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)} == {eps}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("stage7",), "'stage7'.*'stage6'.*mean 'stage"),
        (("head",), "'head'; valid: 'stem'"),
        (("stage2", "stage2"), "each once"),
        (("auto", "stage2"), "'auto' alone"),
        ((), "MODEL.OUT_FEATURES is ()"),
        ((2, 3), "OUT_FEATURES for 'small' is 2; valid: 'stem', 'stage1'"),
    ],
)
def test_unusable_names(names, message):
    with pytest.raises(ConfigError, match=message.replace("()", r"\(\)")):
        small_backbone(*names)


def test_a_name_alone_stands_for_a_tuple_of_it():
    assert SearchedBackbone(small_net(), "stage3").out_features == ["stage3"]
    assert SearchedBackbone(small_net(), "auto").out_features == ["stage3", "stage5", "stage6"]
    assert model_zoo.get("mobilenetv2_100", out_features="stage2").out_features == ["stage2"]
    with pytest.raises(ConfigError, match="OUT_FEATURES for 'small' is 3; valid: 'stem'"):
        SearchedBackbone(small_net(), 3)


def test_networks_of_few_strides():
    stages = ((MBConvSpec(8),), (MBConvSpec(8, stride=2),))
    arch = small_arch(stem=ConvSpec(8), stages=stages, head=HeadSpec(8, 2))
    assert SearchedBackbone(SearchedNet(arch), ("auto",)).feature_info.reduction() == [1, 2]


def test_input_channels(arch_file):
    for channels in (1, 4):
        keys = {"ARCH": arch_file, "IN_CHANNELS": channels}
        assert build_model(config(**keys))(torch.zeros(2, channels, 64, 64)).shape == (2, 5)
        backbone = build_model(config(**keys, OUT_FEATURES=("auto",)))
        assert list(backbone(torch.zeros(2, channels, 64, 64))) == ["stage3", "stage5", "stage6"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"OUTPUT_STRIDE": 16}, "MODEL.OUT_FEATURES is empty"),
        ({"OUTPUT_STRIDE": 12, "OUT_FEATURES": ("auto",)}, "12; valid for 'small': 0, 1, 2, 4"),
        ({"NORM": "GN"}, "MODEL.NORM is 'GN'; valid: 'BN', 'FrozenBN', 'SyncBN'"),
        ({"FREEZE_STAGES": 7}, "MODEL.FREEZE_STAGES is 7; valid: 0 .none. to 6"),
        ({"FREEZE_STAGES": -1}, "MODEL.FREEZE_STAGES is -1"),
        ({"IN_CHANNELS": -1}, "MODEL.IN_CHANNELS is -1"),
    ],
)
def test_unusable_keys(arch_file, keys, message):
    with pytest.raises(ConfigError, match=message):
        build_model(config(ARCH=arch_file, **keys))
