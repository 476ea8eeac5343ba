"""The exporters on our own networks: every activation, number of splits, padding; a skip."""

from __future__ import annotations

import onnx
import pytest
import torch
from export_nets import SIZE, calibrate, smooth_images
from torch import nn

from fpnas.archs import Architecture, get_arch
from fpnas.blocks import Attention, ConvSpec, HeadSpec, MBConvSpec, SkipSpec
from fpnas.export import EXPORT_FORMATS, export_model, fold_bn
from fpnas.modeling import SearchedNet, SuperNet
from fpnas.spaces import get_space

ARCH = Architecture(
    name="every-block",
    input_size=SIZE,
    stem=ConvSpec(channels=8, kernel=3, stride=2, act="hswish"),
    stages=(
        (MBConvSpec(8, 1, 3, 1, "relu", 0), SkipSpec(8)),
        (
            MBConvSpec(16, 2, 5, 3, "relu6", 1, Attention(gate="hsigmoid"), "same"),
            MBConvSpec(16, 1, 3, 2, "swish", 2),
        ),
        (MBConvSpec(24, 2, 3, 2, "relu", 4, padding="same"), SkipSpec(32)),
        (MBConvSpec(40, 2, shortcut="always"), MBConvSpec(24, shortcut="always")),
    ),
    head=HeadSpec(channels=64, num_classes=10),
)

ARCH_OF_SKIPS = Architecture(
    "skips", SIZE, ConvSpec(8), ((SkipSpec(16, stride=2),),), HeadSpec(16, num_classes=10)
)

# Without training, classes are so close that 8 bits confuse them: see test_quantized.py.
ALL_BUT_INT8 = [name for name in EXPORT_FORMATS if name != "onnx-int8"]


@pytest.mark.parametrize(
    ("formats", "dynamic_batch"), [(ALL_BUT_INT8, False), (["onnx", "pt2"], True)]
)
def test_every_kind_of_block_exports(tmp_path, images, formats, dynamic_batch):
    torch.manual_seed(0)
    net = calibrate(SearchedNet(ARCH, dropout=0.2, drop_path=0.2))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fold_bn(net).modules())
    reports = export_model(
        net,
        tmp_path,
        formats,
        SIZE,
        images,
        dynamic_batch=dynamic_batch,
        warmup=0,
        runs=1,
    )
    for report in reports:
        assert report.status == "ok", f"{report.format}: {report.message}"
        metadata = EXPORT_FORMATS[report.format].read_metadata(report.file)
        assert Architecture.from_yaml(metadata["architecture"]) == ARCH


def test_detours_for_gradients_are_not_exported(tmp_path, images):
    """A strided skip slices in front of its convolution where a gradient is wanted."""
    net = calibrate(SearchedNet(ARCH_OF_SKIPS))
    for report in export_model(net, tmp_path, ["onnx", "pt2"], SIZE, images, warmup=0, runs=1):
        assert report.status == "ok", report.message
    kinds = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert "Conv" in kinds and "Slice" not in kinds
    program = torch.export.load(tmp_path / "model.pt2")
    targets = [str(node.target) for node in program.graph.nodes]
    assert any("conv2d" in name for name in targets)
    assert not any("slice" in name for name in targets)


def test_shortcuts_that_pool_odd_maps_export(tmp_path):
    torch.manual_seed(0)
    stages = tuple((MBConvSpec(c, 2, 3, 2, "relu", shortcut="always"),) for c in (8, 20, 12))
    arch = Architecture("odd", 28, ConvSpec(16, stride=1), stages, HeadSpec(32, num_classes=10))
    images = nn.functional.interpolate(smooth_images(4, seed=2), 28, mode="bilinear")
    net = calibrate(SearchedNet(arch))
    rewrites = ("global_pool",)
    for report in export_model(
        net, tmp_path, ALL_BUT_INT8, 28, images, warmup=0, runs=1, rewrites=rewrites
    ):
        assert report.status == "ok", f"{report.format}: {report.message}"
        assert set(report.accelerators.values()) <= {"yes"}


def test_network_extracted_from_a_supernet_exports(tmp_path):
    torch.manual_seed(0)
    space = get_space("FP-NAS-Mini++").at(num_classes=10)
    supernet = SuperNet(space)
    net = supernet.extract(space.sample(1, torch.Generator().manual_seed(3))[0])
    calibrate(net)
    size = space.input_size
    images = nn.functional.interpolate(smooth_images(4, seed=2), size, mode="bilinear")
    (report,) = export_model(net, tmp_path, ["torchscript"], size, images, warmup=0, runs=1)
    assert report.status == "ok", report.message


def test_named_architecture_exports(tmp_path, images):
    torch.manual_seed(0)
    net = calibrate(SearchedNet(get_arch("fbnetv2_f1")))
    formats = ["onnx", "torchscript"]
    for report in export_model(net, tmp_path, formats, SIZE, images, warmup=0, runs=1):
        assert report.status == "ok", f"{report.format}: {report.message}"
        assert report.top1_agreement == 100.0
