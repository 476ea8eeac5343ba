"""What dilation, frozen BatchNorm and frozen stages promise."""

from __future__ import annotations

import copy

import pytest
import torch
from backbone_cases import config, small_arch, small_net, weights_of
from torch import nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import FrozenBatchNorm2d

from fpnas.blocks import BlockSpec, Cost
from fpnas.errors import ConfigError
from fpnas.export import fold_bn
from fpnas.modeling import SearchedBackbone, build_model, convert_norm, dilate, freeze
from fpnas.utils.checkpoint import load_weights

ALL = ("stage2", "stage3", "stage5", "stage6")


@pytest.mark.parametrize("output_stride", [16, 8])
@pytest.mark.parametrize(
    ("padding", "shortcut"), [("symmetric", "equal"), ("same", "equal"), ("symmetric", "always")]
)
@pytest.mark.parametrize("size", [(96, 64), (65, 97)])
def test_dilated_features_hold_the_designed_ones(padding, shortcut, output_stride, size):
    net = small_net(small_arch(padding, shortcut=shortcut))
    designed = SearchedBackbone(copy.deepcopy(net), ALL)
    dilated = SearchedBackbone(net, ALL, output_stride)
    assert dilated.feature_info.reduction() == [min(s, output_stride) for s in (4, 8, 16, 32)]
    x = torch.randn(2, 3, *size)
    features = dilated(x)
    for entry, (name, feature) in zip(dilated.feature_info, designed(x).items(), strict=True):
        rows = tuple((side - 1) // entry["reduction"] + 1 for side in size)
        assert features[name].shape[2:] == rows
        step = designed.output_shape()[name].stride // entry["reduction"]
        # TensorFlow's grid of even maps lies on the last of every ``step`` rows.
        start = step - 1 if padding == "same" and size[0] % 2 == 0 else 0
        torch.testing.assert_close(features[name][:, :, start::step, start::step], feature)


def test_dilation_keeps_weights_and_layers_that_need_no_change():
    net, whole = small_net(small_arch("same", splits=1)), small_net(small_arch("same", splits=1))
    dilate(whole, 16)
    backbone = SearchedBackbone(net, ("stage6",), 32)
    assert list(whole.state_dict()) == list(net.state_dict())
    assert backbone.stage6[0].depthwise.conv.stride == (2, 2)
    assert whole.stage6[0].depthwise.conv.dilation == (1, 1)  # reads the same pixels as before
    assert whole.stage6[2].depthwise.conv.dilation == (2, 2)
    assert whole.stage5[0].depthwise.conv.dilation == (1, 1)
    assert whole(torch.randn(1, 3, 64, 64)).shape == (1, 5)
    with pytest.raises(ConfigError, match="OUTPUT_STRIDE is 24"):
        dilate(net, 24)


class Pooled(BlockSpec):
    """Shrinks its map by pooling."""

    channels, stride = 24, 2

    def cost(self, in_channels: int, height: int, width: int) -> Cost:
        return Cost(0, 0)

    def build(self, in_channels: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(in_channels, 24, 3, padding=1), nn.MaxPool2d(2))


def test_what_cannot_be_dilated_says_so():
    stages = list(small_arch().stages)
    stages[5] = (Pooled(),)
    net = small_net(small_arch(stages=tuple(stages)))
    with pytest.raises(ConfigError, match=r"'stage6\.0'.*cannot be dilated"):
        dilate(net, 16)


@pytest.mark.parametrize("norm", ["FrozenBN", "SyncBN"])
def test_other_norms_compute_what_batch_norm_does_in_eval_mode(norm):
    net, x = small_net(), torch.randn(2, 3, 64, 64)
    expected = net(x)
    convert_norm(net, norm)
    kinds = {type(m) for m in net.modules() if hasattr(m, "running_var")}
    assert kinds == {FrozenBatchNorm2d if norm == "FrozenBN" else nn.SyncBatchNorm}
    assert {m.eps for m in net.modules() if hasattr(m, "running_var")} == {1e-3}
    torch.testing.assert_close(net(x), expected)
    folded = fold_bn(net)  # for the export
    assert not any(hasattr(m, "running_var") for m in folded.modules())
    torch.testing.assert_close(folded(x), expected)
    if norm == "FrozenBN":
        assert torch.equal(net.train()(x), net.eval()(x))


def test_norm_does_not_change_which_weights_fit(tmp_path):
    small_arch().save(tmp_path / "small.yaml")
    keys = {"ARCH": str(tmp_path / "small.yaml"), "WEIGHTS": str(tmp_path / "w.pth")}
    source, x = small_net(), torch.randn(1, 3, 64, 64)
    torch.save(source.state_dict(), keys["WEIGHTS"])
    frozen = build_model(config(**keys, NORM="FrozenBN", FREEZE_STAGES=2))
    torch.testing.assert_close(frozen(x), source(x))  # also in training mode
    torch.save(frozen.state_dict(), keys["WEIGHTS"])
    other = small_net(seed=1)
    load_weights(other, keys["WEIGHTS"])
    assert torch.equal(other(x), source(x))


def step(net: nn.Module, forward) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        forward(torch.randn(4, 3, 64, 64)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("stages", [0, 2])
def test_frozen_stages_stay_as_they_are(stages):
    net = small_net(drop_path=0.5)
    freeze(net, stages)
    net.train()
    before = weights_of(net)
    step(net, net)
    frozen = ("stem.", "stage1.", "stage2.") if stages else ()
    for name, value in weights_of(net).items():
        assert torch.equal(value, before[name]) == name.startswith(frozen), name


def test_frozen_stages_stay_frozen_in_the_hands_of_torchvision():
    net = small_net(drop_path=0.5)
    freeze(net, 2)
    fpn = BackboneWithFPN(net, {"stage2": "2", "stage6": "6"}, [12, 32], 8).train()
    before = weights_of(fpn.body)
    step(fpn, lambda x: fpn(x)["2"])
    for name, value in weights_of(fpn.body).items():
        if name.startswith(("stem.", "stage1.", "stage2.")):
            assert torch.equal(value, before[name]), name
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(fpn.body(x)["2"], fpn.eval().body(x)["2"])
