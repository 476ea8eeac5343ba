"""ONNX of a backbone: an output for each stage."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from fpnas.archs import Architecture
from fpnas.blocks import ConvSpec, HeadSpec, MBConvSpec
from fpnas.errors import UserError
from fpnas.export import REWRITES, export_backbone, export_model
from fpnas.modeling import SearchedBackbone, SearchedNet, freeze


def dilated_backbone() -> SearchedBackbone:
    """Strides 2, 4, 4 (dilated), its first stage frozen, with Split-Attention."""
    stages = (
        (MBConvSpec(12, expansion=2, padding="same"),),
        (MBConvSpec(12, 2, 3, 3.5, splits=2, padding="same"),),
        (MBConvSpec(16, 2, 5, 3.5, splits=2, padding="same"), MBConvSpec(16, kernel=3)),
    )
    arch = Architecture("small", 32, ConvSpec(8, 3, 2, "relu"), stages, HeadSpec(8, 2))
    torch.manual_seed(0)
    net = SearchedNet(arch)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias, std=0.5)
    freeze(net, 1)
    return SearchedBackbone(net, ("stage1", "stage3"), output_stride=4)


def test_one_output_per_stage(tmp_path):
    backbone, images = dilated_backbone(), torch.randn(3, 3, 32, 48)
    file = tmp_path / "new" / "backbone.onnx"
    errors = export_backbone(backbone, file, images, {"licence": "MIT"}, rewrites=tuple(REWRITES))
    assert list(errors) == ["stage1", "stage3"] and max(errors.values()) < 1e-4
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["stage1", "stage3"]
    assert session.get_modelmeta().custom_metadata_map["licence"] == "MIT"
    features = backbone.eval()(images[:1])
    for name, found in zip(
        features, session.run(None, {"images": images[:1].numpy()}), strict=True
    ):
        assert found.shape == tuple(features[name].shape)
        expected = features[name].detach().numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    kinds = {node.op_type for node in onnx.load(file).graph.node}
    assert "BatchNormalization" not in kinds  # folded, also where it is frozen


def test_wrong_file_is_not_left(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "fpnas.export.checked.prepare_source",
        lambda backbone, *args: prepare(SearchedBackbone(SearchedNet(backbone.arch), names), *args),
    )
    from fpnas.export.source import prepare_source as prepare

    names = ("stage1", "stage3")
    backbone, file = dilated_backbone(), tmp_path / "backbone.onnx"
    with pytest.raises(UserError, match="'stage1'"):
        export_backbone(backbone, file, torch.randn(2, 3, 32, 32), rewrites=())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="N >= 2"):
        export_backbone(backbone, file, torch.randn(1, 3, 32, 32))


def test_another_kind_of_network_is_sent_to_its_function(tmp_path):
    backbone, images = dilated_backbone(), torch.randn(2, 3, 32, 32)
    classifier = SearchedNet(backbone.arch)
    with pytest.raises(UserError, match=r"found a SearchedNet\. .* call export_model"):
        export_backbone(classifier, tmp_path / "new" / "net.onnx", images)
    with pytest.raises(UserError, match=r"returns a dict\. .* call export_backbone"):
        export_model(backbone, tmp_path / "new", "onnx", 32, images)
    with pytest.raises(UserError, match=r"cannot take images \(2, 4, 32, 32\): .* channels"):
        export_backbone(backbone, tmp_path / "new" / "net.onnx", torch.randn(2, 4, 32, 32))
    assert list(tmp_path.iterdir()) == []
