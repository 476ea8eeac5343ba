"""Rewrites change the operators of a graph and its speed, never its outputs."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from fpnas.archs import Architecture
from fpnas.blocks import ConvSpec, HeadSpec, MBConv, MBConvSpec, PooledHeadSpec
from fpnas.config import get_cfg
from fpnas.errors import ConfigError
from fpnas.export import REWRITES, apply_rewrites, export_model, fold_bn
from fpnas.export import onnx as onnx_format
from fpnas.export.rewrites import expand_rewrites
from fpnas.export.rewrites.mbconv import PairOfGates
from fpnas.export.rewrites.operators import GlobalPool
from fpnas.export.source import prepare_source
from fpnas.layers import SplitAttention
from fpnas.modeling import SearchedNet

ALL = tuple(REWRITES)
EACH_AND_ALL = [*((name,) for name in REWRITES), ALL]


def small_net(
    act: str, splits: int, size: int = 56, pooled_head: bool = False, shortcut: str = "equal"
) -> SearchedNet:
    """In eval mode, with parameters far from their initial values and outputs that depend on the
    image. Inner channels are 12 (nothing to expand), 24 and 40: no multiples of 16.
    """
    stages = (
        (MBConvSpec(12, expansion=1, act=act, splits=splits, shortcut=shortcut),),
        (
            MBConvSpec(12, stride=2, expansion=2, act=act, splits=splits, shortcut=shortcut),
            MBConvSpec(12, kernel=5, expansion=3.5, act=act, splits=splits, shortcut=shortcut),
        ),
    )
    head = PooledHeadSpec(24, 5, act=act) if pooled_head else HeadSpec(24, 5, act=act)
    torch.manual_seed(0)
    net = SearchedNet(Architecture("small", size, ConvSpec(12, act=act), stages, head))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias, std=0.5)
            module.momentum = None
        elif isinstance(module, SplitAttention):  # gates far from each other
            for fc in (module.fc1, module.fc2):
                nn.init.normal_(fc.weight, std=fc.in_channels**-0.5)
                nn.init.normal_(fc.bias)
    with torch.no_grad():
        net.train()(images_of(size, 16))
    return net.eval()


def images_of(size: int, count: int = 3) -> Tensor:
    """Colour images that differ as a whole, which an average over the map keeps apart."""
    generator = torch.Generator().manual_seed(size)
    coarse = 2 * torch.randn(count, 3, 3, 3, generator=generator)
    return nn.functional.interpolate(coarse, size, mode="bilinear")


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / (expected - expected.mean(0)).abs().max())


def written(net: nn.Module, images: Tensor, names: tuple[str, ...], path: Path):
    source = prepare_source(net, images, {}, 1, dynamic_batch=False, rewrites=names)
    onnx_format.export(source, path)
    return onnx.load(path).graph


def operators(graph: onnx.GraphProto) -> Counter[str]:
    return Counter(node.op_type for node in graph.node)


# What they compute --------------------------------------------------------------------------------


@pytest.mark.parametrize("names", EACH_AND_ALL, ids="+".join)
@pytest.mark.parametrize(
    ("act", "splits", "size"),
    [
        ("relu", 0, 56),
        ("relu", 1, 56),
        ("swish", 1, 60),
        ("hswish", 1, 28),
        ("relu", 2, 60),
        ("swish", 2, 13),
        ("hswish", 4, 28),
        ("relu", 4, 56),
    ],
)
def test_outputs_stay_equal(act, splits, size, names):
    """In float64, where a difference beyond 1e-12 is no rounding."""
    net, images = small_net(act, splits, size).double(), images_of(size).double()
    with torch.no_grad():
        expected = net(images)
        found = apply_rewrites(fold_bn(net), names)(images)
    assert (expected - expected.mean(0)).abs().max() > 0.01 * expected.abs().max()
    assert relative_error(found, expected) < 1e-12


@pytest.mark.parametrize(
    ("act", "splits", "size", "pooled_head"), [("swish", 1, 60, True), ("relu", 2, 28, False)]
)
def test_file_computes_what_the_original_model_computes(tmp_path, act, splits, size, pooled_head):
    net, images = small_net(act, splits, size, pooled_head), images_of(size)
    (report,) = export_model(net, tmp_path, ["onnx"], size, images, warmup=0, runs=1, rewrites=ALL)
    assert (report.status, report.top1_agreement) == ("ok", 100.0)
    assert report.max_rel_error < 1e-5


def test_file_takes_any_batch_when_asked(tmp_path):
    net, images = small_net("hswish", 4, 28), images_of(28, 4)
    (report,) = export_model(
        net, tmp_path, ["onnx"], 28, images, dynamic_batch=True, warmup=0, runs=1, rewrites=ALL
    )
    assert report.status == "ok" and report.max_rel_error < 1e-5


def test_network_is_left_as_it_was():
    net = fold_bn(small_net("relu", 2))
    before = copy.deepcopy(net.state_dict())
    apply_rewrites(net, ALL)
    torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)


def test_blocks_of_others_are_left_alone():
    """Subclasses may compute something else; modules that the rewrites do not know stay."""

    class OwnBlock(MBConv):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 1

    class OwnAttention(SplitAttention):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 2

    class OwnPool(nn.AdaptiveAvgPool2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) ** 2

    torch.manual_seed(0)
    own = nn.Sequential(
        OwnBlock(MBConvSpec(12, expansion=2, splits=2), 12),
        OwnAttention(12, 8, 1),
        nn.Conv2d(12, 20, 3, groups=4),
        OwnPool(1),
        nn.AdaptiveAvgPool2d(2),
    )
    net, images = fold_bn(own), torch.randn(2, 12, 14, 14)
    # The pool inside of them is the one known module, hence the tolerance.
    rewritten = apply_rewrites(net, ALL)
    torch.testing.assert_close(rewritten(images), net(images), rtol=1e-5, atol=1e-6)
    assert [type(module) for module in rewritten] == [type(module) for module in net]


def test_activation_that_turns_zeros_into_more_is_not_padded():
    class Shifted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sigmoid()

    net = small_net("relu", 1)
    net.stage2[0].depthwise.act = Shifted()
    net = fold_bn(net)
    padded = apply_rewrites(net, ["pad_channels"])
    assert padded.stage2[0].depthwise.conv.in_channels == 24
    assert padded.stage2[1].depthwise.conv.in_channels == 48
    images = images_of(28)
    torch.testing.assert_close(padded(images), net(images), rtol=1e-5, atol=1e-5)


# What they write ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """Graphs of networks at 56 px, by splits and names of the rewrites."""
    folder = tmp_path_factory.mktemp("graphs")
    return {
        (splits, names): written(
            small_net("relu", splits), images_of(56), names, folder / f"{splits}{len(names)}.onnx"
        )
        for splits, names in [(1, ()), (1, ALL), (2, ALL), (4, ALL)]
    }


@pytest.mark.parametrize("splits", [1, 2, 4])
def test_pools_are_pooling_operators(graphs, splits):
    after = operators(graphs[splits, ALL])
    assert after["ReduceMean"] == after["ReduceSum"] == 0
    assert after["GlobalAveragePool"] == 3 * splits + 1
    pools = [node for node in graphs[splits, ALL].node if node.op_type == "AveragePool"]
    windows = Counter()
    for pool in pools:
        values = {a.name: onnx.helper.get_attribute_value(a) for a in pool.attribute}
        assert values["kernel_shape"] == values["strides"] and not any(values.get("pads", []))
        windows[tuple(values["kernel_shape"])] += 1
    # One map of 56 px and two of 28 a split, and the head's map of 28 px.
    reentries = Counter({(1, 1): 12}) if splits == 4 else Counter()
    assert windows == Counter({(8, 8): splits, (4, 4): 2 * splits + 1}) + reentries


@pytest.mark.parametrize("splits", [1, 2, 4])
def test_gates_are_resized_in_the_form_that_the_runtime_keeps_blocked(graphs, splits):
    graph = graphs[splits, ALL]
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    resizes = [node for node in graph.node if node.op_type == "Resize"]
    assert len(resizes) == 3 * splits == operators(graph)["Mul"]
    sizes = []
    for node in resizes:
        values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        assert values["mode"] == b"nearest" and values["nearest_mode"] == b"floor"
        assert values["coordinate_transformation_mode"] == b"asymmetric"
        assert len(node.input) == 3  # scales, no sizes
        sizes.append(tuple(constants[node.input[2]]))
    assert sorted(sizes) == sorted([(1, 1, 56, 56)] * splits + [(1, 1, 28, 28)] * 2 * splits)


def test_splits_become_plain_depthwise_convolutions(graphs):
    for splits in (2, 4):
        graph = graphs[splits, ALL]
        weights = {t.name: tuple(t.dims) for t in graph.initializer}
        grouped = [
            (onnx.helper.get_node_attr_value(node, "group"), weights[node.input[1]][0])
            for node in graph.node
            if node.op_type == "Conv" and onnx.helper.get_node_attr_value(node, "group") > 1
        ]
        assert len(grouped) == 3 * splits
        assert all(groups == outputs for groups, outputs in grouped)
        assert max(len(shape) for shape in weights.values()) == 4
    assert operators(graphs[2, ALL])["Sigmoid"] == 6 and operators(graphs[2, ALL])["Softmax"] == 0
    assert operators(graphs[4, ALL])["Softmax"] == 3 == operators(graphs[4, ALL])["Split"]


def test_padded_channels_are_multiples_of_16_and_hold_zeros():
    net = fold_bn(small_net("swish", 2))
    padded = apply_rewrites(net, ["pad_channels"])
    inner = [
        block.depthwise.conv.in_channels for block in padded.modules() if type(block) is MBConv
    ]
    assert inner == [12, 32, 48]  # the first block takes its input as it is
    block = padded.stage2[0]
    features = block.depthwise(block.expand(torch.randn(2, 12, 9, 9)))
    assert features[:, : 24 * 2].abs().sum() > 0 and not features[:, 24 * 2 :].any()
    assert not block.project.conv.weight[:, 24:].any()


@pytest.mark.parametrize(
    ("size", "kernel"), [((56, 56), (8, 8)), ((60, 60), (6, 6)), ((14, 28), (2, 4))]
)
def test_first_pool_leaves_about_7_rows(size, kernel, monkeypatch):
    seen = []
    pool = nn.functional.avg_pool2d
    monkeypatch.setattr(
        nn.functional, "avg_pool2d", lambda x, window: seen.append(window) or pool(x, window)
    )
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(GlobalPool()(x), x.mean((2, 3), keepdim=True))
    assert seen == [kernel]


@pytest.mark.parametrize("size", [7, 13, 17, 1])
def test_map_without_fitting_windows_is_pooled_at_once(size, monkeypatch):
    monkeypatch.setattr(nn.functional, "avg_pool2d", None)
    x = torch.randn(2, 3, size, size)
    torch.testing.assert_close(GlobalPool()(x), x.mean((2, 3), keepdim=True))


# Switches and checks ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "pools", "resizes"), [(("global_pool",), 4, 0), (("resize_gates",), 0, 3)]
)
def test_a_switch_switches(tmp_path, graphs, names, pools, resizes):
    off = operators(graphs[1, ()])
    assert (off["ReduceMean"], off["GlobalAveragePool"], off["Resize"]) == (4, 0, 0)
    graph = written(small_net("relu", 1, 28), images_of(28), names, tmp_path / "net.onnx")
    on = operators(graph)
    assert (on["ReduceMean"], on["GlobalAveragePool"], on["Resize"]) == (4 - pools, pools, resizes)


@pytest.mark.parametrize(("cpu", "pads"), [("AVX2", False), ("AVX512", True), ("DEFAULT", False)])
def test_auto_pads_only_for_wide_vectors(monkeypatch, cpu, pads):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: cpu)
    helpful = ("split_branches", "global_pool", "resize_gates")
    chosen = ("pad_channels", *helpful) if pads else helpful
    assert expand_rewrites(get_cfg().EXPORT.REWRITES) == chosen


def test_names_are_applied_in_the_order_of_the_table():
    assert expand_rewrites(("resize_gates", "split_branches", "resize_gates")) == (
        "split_branches",
        "resize_gates",
    )
    assert expand_rewrites(()) == ()
    assert expand_rewrites("phone") == expand_rewrites(("phone",))


def test_unknown_name_is_refused_before_any_work(tmp_path):
    with pytest.raises(ConfigError, match=r"'gobal_pool'.*Did you mean 'global_pool'"):
        export_model(
            nn.Identity(), tmp_path / "out", ["onnx"], 28, images_of(28), rewrites=["gobal_pool"]
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("act", "splits", "shortcut"),
    [
        ("hswish", 1, "equal"),
        ("hswish", 2, "always"),
        ("hswish", 4, "equal"),
        ("swish", 1, "always"),
    ],
)
def test_graph_for_phones_is_handed_to_their_accelerators_as_a_whole(
    tmp_path, act, splits, shortcut
):
    net, images = small_net(act, splits, 28, shortcut=shortcut), images_of(28)
    verdicts = {}
    for name in ("auto", "phone"):
        folder = tmp_path / name
        (report,) = export_model(net, folder, ["onnx"], 28, images, runs=1, rewrites=(name,))
        assert report.status == "ok" and report.max_rel_error < 1e-5
        verdicts[name] = set(report.accelerators.values())
    assert verdicts["phone"] == {"yes"} and "yes" not in verdicts["auto"]
    graph = onnx.load(tmp_path / "phone" / "model.onnx").graph
    assert {"HardSwish", "HardSigmoid"}.isdisjoint(operators(graph))


def swap_gates(pair: PairOfGates, hidden: Tensor) -> list[Tensor]:
    return [pair.second(hidden).sigmoid(), pair.first(hidden).sigmoid()]


def test_damaged_rewrite_is_caught(tmp_path, monkeypatch):
    monkeypatch.setattr(PairOfGates, "forward", swap_gates)
    net, images = small_net("relu", 2, 28), images_of(28)
    (report,) = export_model(net, tmp_path, ["onnx"], 28, images, warmup=0, runs=1)
    assert report.status == "failed" and "max relative error" in report.message
    assert not (tmp_path / "model.onnx").exists()


def test_torchscript_holds_the_network_as_it_is(tmp_path):
    net, images = small_net("relu", 1, 28), images_of(28)
    (report,) = export_model(net, tmp_path, ["torchscript"], 28, images, warmup=0, runs=1)
    assert report.status == "ok"
    assert "fpnas::" not in str(torch.jit.load(report.file).inlined_graph)
