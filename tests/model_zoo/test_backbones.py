"""Published weights for another task, and as backbones."""

from __future__ import annotations

import pytest
import torch
from zoo_cases import add_in_tree

from fpnas import model_zoo
from fpnas.errors import ConfigError, UserError


def test_pretrained_backbone(zoo, caplog):
    add_in_tree(zoo)
    backbone = model_zoo.get("tiny_pets", pretrained=True, out_features=("stage1", "stage2"))
    whole, x = model_zoo.get("tiny_pets", pretrained=True).eval(), torch.randn(1, 3, 16, 16)
    features = backbone.eval()(x)
    assert torch.equal(features["stage2"], whole[:-1](x))
    assert list(features) == ["stage1", "stage2"]
    assert backbone.feature_info.reduction() == [2, 4]
    (record,) = caplog.records
    assert "dropped" in record.message and "head" in record.message


def test_other_input_channels(zoo, caplog):
    add_in_tree(zoo)
    net = model_zoo.get("tiny_pets", pretrained=True, in_channels=1, num_classes=7).eval()
    whole = model_zoo.get("tiny_pets", pretrained=True).eval()
    grey = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(net[:-1](grey), whole[:-1](grey.expand(2, 3, 16, 16)))
    assert net(grey).shape == (2, 7)
    assert "fresh classifier of 7 classes" in caplog.text
    assert "from 3 to 1 input channels" in caplog.text


def test_whole_network_is_taken_over_without_a_word(zoo, caplog):
    add_in_tree(zoo)
    model_zoo.get("tiny_pets", pretrained=True, num_classes=3, in_channels=3)
    assert not caplog.records


def test_unusable_arguments(zoo):
    add_in_tree(zoo)
    for keys in ({"num_classes": 3}, {"dropout": 0.1}):
        with pytest.raises(UserError, match="no classifier"):
            model_zoo.get("tiny_pets", out_features=("auto",), **keys)
    with pytest.raises(ConfigError, match="stage9"):
        model_zoo.get("tiny_pets", out_features=("stage9",))
