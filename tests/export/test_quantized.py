"""int8, baked normalisation, .ort and the check for phones, on a small searched network."""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export_nets import SIZE, smooth_images
from torch import Tensor, nn

from fpnas.archs import Architecture
from fpnas.blocks import ConvSpec, HeadSpec, MBConvSpec
from fpnas.data import Preprocessing
from fpnas.errors import ConfigError, UserError
from fpnas.export import EXPORT_FORMATS, ExportReport, export_model
from fpnas.modeling import SearchedNet

RELU = Architecture(
    name="relu",
    input_size=SIZE,
    stem=ConvSpec(16, stride=2, act="relu"),
    stages=((MBConvSpec(16, 1, 3, 2, "relu", 1), MBConvSpec(32, 2, 3, 4, "relu")),),
    head=HeadSpec(64, num_classes=6, act="relu"),
)
OTHERS = Architecture(
    name="others",
    input_size=SIZE,
    stem=ConvSpec(16, stride=2, act="hswish"),
    stages=((MBConvSpec(16, 1, 3, 2, "swish", 2), MBConvSpec(32, 2, 5, 3, "hswish", 1)),),
    head=HeadSpec(64, num_classes=6, act="swish"),
)
HALF = Preprocessing(SIZE, 1.0, "bilinear", (0.5, 0.4, 0.3), (0.5, 0.6, 0.7))


def pixels(count: int, seed: int) -> Tensor:
    """uint8 images [N, 3, S, S]."""
    return (127 + 60 * smooth_images(count, seed)).clamp(0, 255).byte()


def colours(images: Tensor) -> Tensor:
    """The class of each image: its strongest colour, and whether it is bright."""
    means = images.float().mean((2, 3))
    return means.argmax(1) + 3 * (means.mean(1) > 127).long()


def trained(arch: Architecture) -> SearchedNet:
    """In eval mode, after 100 steps that tell colours."""
    torch.manual_seed(0)
    net = SearchedNet(arch)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for step in range(100):
        batch = pixels(32, seed=1000 + step)
        loss = nn.functional.cross_entropy(net(HALF.normalize(batch)), colours(batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


@pytest.fixture(scope="module")
def net() -> SearchedNet:
    return trained(RELU)


def export(net: SearchedNet, folder: Path, formats: list[str], **options) -> list[ExportReport]:
    images = HALF.normalize(pixels(40, seed=1))
    options = {"calibration": HALF.normalize(pixels(100, seed=2)), **options}
    return export_model(net, folder, formats, SIZE, images, warmup=0, runs=1, **options)


def quantizers(report: ExportReport) -> int:
    return sum(node.op_type == "QuantizeLinear" for node in onnx.load(report.file).graph.node)


def quantized_weights(report: ExportReport) -> list[tuple[np.ndarray, np.ndarray]]:
    """int8 weights and their scales, of every convolution and linear layer."""
    graph = onnx.load(report.file).graph
    sources = {node.output[0]: node for node in graph.node}
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    weights = [sources[layer.input[1]] for layer in layers]
    assert {node.op_type for node in weights} == {"DequantizeLinear"}
    return [(constants[node.input[0]], constants[node.input[1]]) for node in weights]


def dense_weights(report: ExportReport) -> list[np.ndarray]:
    return [values for values, _ in quantized_weights(report) if values.shape[1] > 1]


def depthwise_weights(report: ExportReport) -> list[np.ndarray]:
    return [values for values, _ in quantized_weights(report) if values.shape[1] == 1]


def largest_sum(values: np.ndarray) -> int:
    """Of two neighbours among the weights of a channel, channels last."""
    rows = np.moveaxis(values.astype(int), 1, -1).reshape(len(values), -1)
    even = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2)))
    return int(np.abs(even[:, 0::2] + even[:, 1::2]).max())


def test_int8_has_a_scale_a_channel_and_the_metadata(net, tmp_path, caplog):
    (report,) = export(net, tmp_path, ["onnx-int8"], metadata={"classes": ["a", "b"]})
    assert report.status == "ok" and report.top1_agreement >= 90
    assert "calibrated" not in caplog.text  # 100 images are enough
    for values, scales in quantized_weights(report):
        assert values.dtype == np.int8 and scales.shape == (len(values),)
    metadata = EXPORT_FORMATS["onnx-int8"].read_metadata(report.file)
    assert json.loads(metadata["classes"]) == ["a", "b"]


def test_neighbouring_int8_weights_fit_16_bits_unless_that_is_not_asked_for(net, tmp_path):
    (safe,) = export(net, tmp_path / "safe", ["onnx-int8"])
    (full,) = export(net, tmp_path / "full", ["onnx-int8"], int8_x86_safe=False)
    assert max(largest_sum(values) for values in dense_weights(safe)) in (127, 128)
    assert max(largest_sum(values) for values in dense_weights(full)) > 128
    for report in (safe, full):
        assert all(np.abs(values).max() == 127 for values in depthwise_weights(report))


def test_x86_safe_weights_give_the_same_logits_in_32_bit_sums(net, tmp_path):
    (report,) = export(net, tmp_path, ["onnx-int8"])
    exact = onnxruntime.SessionOptions()
    exact.add_session_config_entry("session.x64quantprecision", "1")  # no 16-bit sums
    plain, careful = (
        onnxruntime.InferenceSession(report.file, options)
        for options in (onnxruntime.SessionOptions(), exact)
    )
    for image in HALF.normalize(pixels(10, seed=3)).split(1):
        feed = {"images": image.numpy()}
        assert np.array_equal(plain.run(None, feed)[0], careful.run(None, feed)[0])


def test_int8_leaves_the_root_logger_as_it_was(net, tmp_path, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    level = logging.getLogger().level
    export(net, tmp_path, ["onnx-int8"])
    assert logging.getLogger().handlers == [] and logging.getLogger().level == level


def test_int8_of_every_activation_and_attention(tmp_path):
    (report,) = export(trained(OTHERS), tmp_path, ["onnx-int8"])
    assert report.status == "ok" and report.top1_agreement >= 90


def test_int8_keeps_sensitive_layers_in_float_until_the_loss_is_allowed(net, tmp_path):
    fragile = copy.deepcopy(net)
    wide, after = fragile.stage1[1].expand.bn, fragile.stage1[1].depthwise.bn
    with torch.no_grad():  # one channel 10,000 times wider: the others drown in its steps
        wide.weight[0] *= 1e4
        wide.bias[0] *= 1e4
        after.running_mean[0] *= 1e4
        after.running_var[0] *= 1e8
    (free,) = export(fragile, tmp_path / "free", ["onnx-int8"])
    assert free.status == "failed" and "top-1 agreement" in free.message
    (kept,) = export(fragile, tmp_path / "kept", ["onnx-int8"], int8_max_drop=5.0)
    assert kept.top1_agreement >= 95
    (sound,) = export(net, tmp_path / "sound", ["onnx-int8"])
    assert 0 < quantizers(kept) < quantizers(sound)


def test_int8_without_calibration_images_fails_alone(net, tmp_path):
    int8, plain = export(net, tmp_path, ["onnx-int8", "onnx"], calibration=None)
    assert int8.status == "failed" and "--calibration" in int8.message
    assert plain.status == "ok"
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "export.json"}


def test_few_calibration_images_are_remarked_on(net, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        export(net, tmp_path, ["onnx-int8"], calibration=HALF.normalize(pixels(8, seed=2)))
    assert "calibrated on 8 images; take at least 100" in caplog.text


def test_unusable_settings_name_the_key(net, tmp_path):
    with pytest.raises(ConfigError, match=r"EXPORT.INT8_METHOD.*'mimax'"):
        export(net, tmp_path, ["onnx-int8"], int8_method="mimax")


@pytest.mark.parametrize("name", ["onnx", "onnx-fp16", "onnx-int8", "ort", "torchscript", "pt2"])
def test_baked_graph_takes_pixels(net, tmp_path, name):
    (report,) = export(net, tmp_path, [name], bake=HALF)
    assert report.status == "ok", report.message
    run = EXPORT_FORMATS[name].load(report.file, 1)
    image = pixels(1, seed=7)
    with torch.no_grad():
        expected = net.eval()(HALF.normalize(image)).numpy()
    found = run(image.permute(0, 2, 3, 1).contiguous().numpy())
    tolerance = {"onnx-fp16": 0.01, "onnx-int8": 0.3}.get(name, 1e-4)
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def test_images_that_were_no_pixels_cannot_be_baked(net, tmp_path):
    with pytest.raises(UserError, match="8-bit RGB pixels"):
        export_model(net, tmp_path, ["onnx"], SIZE, smooth_images(4, seed=1), bake=HALF)


def test_relu_network_runs_on_accelerators_as_a_whole(net, tmp_path):
    (report,) = export(net, tmp_path, ["onnx"], rewrites=("global_pool",))
    assert set(report.accelerators.values()) == {"yes"}
