"""Weights for another task: what fits is taken over, what is not is listed."""

from __future__ import annotations

import logging

import pytest
import timm.models
import torch
from backbone_cases import config, small_arch, small_net

from fpnas.blocks import HeadSpec, PooledHeadSpec
from fpnas.errors import CheckpointError
from fpnas.modeling import SearchedBackbone, SearchedNet, build_model, load_pretrained
from fpnas.modeling.build import adapt_channels, classifier_weights, input_weights


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"model": small_net().state_dict()}, path)
    return path


@pytest.fixture
def arch_file(tmp_path) -> str:
    small_arch().save(tmp_path / "small.yaml")
    return str(tmp_path / "small.yaml")


def test_another_number_of_classes(file, arch_file, caplog):
    cfg = config(ARCH=arch_file, WEIGHTS=str(file), NUM_CLASSES=7)
    model, source = build_model(cfg), small_net().state_dict()
    for name, value in model.state_dict().items():
        if not name.startswith("head.fc."):
            assert torch.equal(value, source[name]), name
    assert model.head.fc.weight.any()  # fresh, not zero
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    for part in (str(file), "7 classes", "head.fc.weight [5, 24]", "head.fc.bias [5]"):
        assert part in record.message


def test_same_numbers_change_nothing(file, arch_file, caplog):
    build_model(config(ARCH=arch_file, WEIGHTS=str(file), NUM_CLASSES=5, IN_CHANNELS=3))
    assert not caplog.records


def test_a_backbone_takes_its_part(file, caplog):
    backbone = SearchedBackbone(SearchedNet(small_arch()), ("stage3", "stage5"))
    (note,) = load_pretrained(backbone, file)
    x, source = torch.randn(1, 3, 64, 64), SearchedBackbone(small_net(), ("stage3", "stage5"))
    for name, feature in backbone.eval()(x).items():
        assert torch.equal(feature, source(x)[name])
    in_head = sum(name.startswith("head.") for name in small_net().state_dict())
    assert "stage6 (" in note and f"head ({in_head} weights)" in note
    torch.save(backbone.state_dict(), file)  # its own weights fit it exactly
    assert load_pretrained(backbone, file) == []


@pytest.mark.parametrize("channels", [1, 2, 4, 6, 7])
def test_input_channels_are_adapted_as_in_timm(channels, file, arch_file, caplog):
    weight = torch.randn(8, 3, 3, 3)
    expected = timm.models.adapt_input_conv(channels, weight)
    torch.testing.assert_close(adapt_channels(weight, channels), expected)
    cfg = config(ARCH=arch_file, WEIGHTS=str(file), IN_CHANNELS=channels, OUT_FEATURES=("auto",))
    backbone = build_model(cfg)
    source = small_net()
    expected = adapt_channels(source.stem.conv.weight, channels)
    assert torch.equal(backbone.stem.conv.weight, expected)
    assert f"stem.conv.weight from 3 to {channels} input channels" in caplog.text
    assert "head" in caplog.text  # dropped
    if channels in (1, 6):  # grey images look as they did
        grey = torch.rand(1, 1, 64, 64)
        ours = backbone.eval()(grey.expand(1, channels, 64, 64))["stage6"]
        theirs = SearchedBackbone(source, ("stage6",))(grey.expand(1, 3, 64, 64))["stage6"]
        torch.testing.assert_close(ours, theirs)


def test_weights_of_one_channel_for_three():
    weight = torch.randn(4, 1, 3, 3)
    torch.testing.assert_close(adapt_channels(weight, 3), weight.repeat(1, 3, 1, 1) / 3)


@pytest.mark.parametrize(
    ("head", "names"),
    [
        (HeadSpec(24, 5), ["head.fc.weight", "head.fc.bias"]),
        (PooledHeadSpec(24, 5), ["head.fc.weight", "head.fc.bias"]),
    ],
)
def test_what_depends_on_classes_and_channels(head, names):
    assert classifier_weights(small_arch(head=head)) == names
    assert input_weights(small_arch(head=head)) == ["stem.conv.weight"]


@pytest.mark.parametrize(
    "arch",
    [
        small_arch(head=HeadSpec(32, 7)),  # other widths than the file
        small_arch(head=PooledHeadSpec(24, 7)),
        small_arch(stages=small_arch().stages[:-1], head=HeadSpec(24, 7)),
    ],
    ids=["wider", "other head", "fewer stages"],
)
def test_anything_else_is_refused(arch, file):
    model = SearchedNet(arch)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match="does not fit the model"):
        load_pretrained(model, file, new_classes=True, new_input=True)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_numbers_that_nobody_asked_for_are_refused(file):
    for arch in (small_arch().with_num_classes(7), small_arch().with_in_channels(1)):
        with pytest.raises(CheckpointError, match=r"\.weight: \("):
            load_pretrained(SearchedNet(arch), file)
