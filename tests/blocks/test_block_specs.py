from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from torch import nn

from fpnas.blocks import (
    BLOCK_REGISTRY,
    Attention,
    BlockSpec,
    ConvSpec,
    Cost,
    HeadSpec,
    MBConv,
    MBConvSpec,
    PooledHeadSpec,
    SkipSpec,
    block_name,
    spec_from_dict,
    spec_to_dict,
)
from fpnas.errors import ConfigError, UnknownNameError, UserError

EXAMPLES = [
    ConvSpec(channels=6, kernel=5, stride=2, act="hswish"),
    MBConvSpec(channels=12),
    MBConvSpec(channels=4, stride=2, kernel=5, expansion=2.3, act="swish", splits=2),
    MBConvSpec(channels=4, expansion=1, splits=1),
    MBConvSpec(channels=4, stride=2, act="relu6", padding="same", always_expand=True),
    MBConvSpec(channels=12, stride=2, shortcut="always"),
    MBConvSpec(channels=4, splits=1, attention=Attention("input", 0.5, 1, "swish", "hsigmoid")),
    ConvSpec(channels=6, kernel=3, stride=2, padding="same"),
    SkipSpec(channels=4),
    SkipSpec(channels=6, stride=2),
    HeadSpec(channels=16, num_classes=5),
    PooledHeadSpec(channels=16, num_classes=5, expansion=2.5),
    PooledHeadSpec(channels=16, num_classes=5, bias=True),
]


def test_examples_cover_the_registry() -> None:
    # Blocks that other tests register have their own names.
    own = {spec_type for _, spec_type in BLOCK_REGISTRY if spec_type.__module__[:6] == "fpnas."}
    assert {type(spec) for spec in EXAMPLES} == own


@pytest.mark.parametrize("spec", EXAMPLES, ids=str)
def test_contract(spec: BlockSpec) -> None:
    assert isinstance(spec, BlockSpec)
    assert dataclasses.is_dataclass(spec)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.channels = 3
    assert hash(spec) == hash(dataclasses.replace(spec))
    assert isinstance(spec.cost(4, 9, 9), Cost)
    out = spec.build(4).eval()(torch.randn(2, 4, 9, 9))
    if hasattr(spec, "num_classes"):
        assert out.shape == (2, spec.num_classes)
    else:
        side = (9 - 1) // spec.stride + 1
        assert out.shape == (2, spec.channels, side, side)


@pytest.mark.parametrize("spec", EXAMPLES, ids=str)
def test_dict_round_trip(spec: BlockSpec) -> None:
    data = spec_to_dict(spec)
    assert data["block"] == block_name(spec)
    assert BLOCK_REGISTRY.get(data["block"]) is type(spec)
    assert spec_from_dict(data) == spec


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MBConvSpec(channels=0), r"MBConvSpec.channels .* at least 1, found 0"),
        (lambda: MBConvSpec(channels="8"), r"channels .* found '8'"),
        (lambda: MBConvSpec(channels=8.0), r"channels .* found 8.0"),
        (lambda: MBConvSpec(channels=True), r"channels .* found True"),
        (lambda: MBConvSpec(channels=8, stride=0), r"stride .* found 0"),
        (lambda: MBConvSpec(channels=8, kernel=4), r"kernel must be odd, found 4"),
        (lambda: MBConvSpec(channels=8, kernel=0), r"kernel .* at least 1, found 0"),
        (lambda: MBConvSpec(channels=8, splits=3), r"splits must be one of \(0, 1, 2, 4\)"),
        (lambda: MBConvSpec(channels=8, splits=2.0), r"splits .* found 2.0"),
        (lambda: MBConvSpec(channels=8, splits=True), r"splits .* found True"),
        (lambda: MBConvSpec(channels=8, splits=[1]), r"splits .* found \[1\]"),
        (lambda: MBConvSpec(channels=8, expansion=0), r"expansion .* above 0, found 0"),
        (lambda: MBConvSpec(channels=8, expansion="6"), r"expansion .* found '6'"),
        (lambda: MBConvSpec(channels=8, expansion=float("nan")), r"expansion .* found nan"),
        (lambda: MBConvSpec(channels=8, expansion=float("inf")), r"expansion .* found inf"),
        (lambda: MBConvSpec(channels=8, act="gelu"), r"Unknown activation 'gelu'"),
        (lambda: ConvSpec(channels=8, kernel=2), r"kernel must be odd"),
        (lambda: ConvSpec(channels=-8), r"ConvSpec.channels"),
        (lambda: SkipSpec(channels=8, stride=None), r"SkipSpec.stride .* found None"),
        (lambda: HeadSpec(channels=8, num_classes=0), r"num_classes .* found 0"),
        (lambda: PooledHeadSpec(channels=8, num_classes=2, expansion=-1), r"expansion .* -1"),
        (lambda: PooledHeadSpec(channels=8, num_classes=2, bias=1), r"bias must be true or .* 1"),
        (lambda: MBConvSpec(channels=8, always_expand="no"), r"always_expand .* found 'no'"),
        (lambda: MBConvSpec(channels=8, shortcut=True), r"is True. Valid: equal, always"),
        (
            lambda: MBConvSpec(channels=8, shortcut="always", padding="same"),
            r"'always' needs padding 'symmetric', found 'same'",
        ),
        (lambda: MBConvSpec(channels=8, padding="valid"), r"is 'valid'. Valid: symmetric, same"),
        (lambda: ConvSpec(channels=8, padding=["same"]), r"is \['same'\]"),
        (lambda: ConvSpec(8, 3, 4, padding="same"), r"kernel 3 and stride 4"),
        (lambda: MBConvSpec(channels=8, attention={}), r"must be an Attention, found {}"),
        (lambda: Attention(of="output"), "of is 'output'. Valid: expanded, input"),
        (lambda: Attention(ratio=0), r"ratio must be a number above 0, found 0"),
        (lambda: Attention(ratio=float("inf")), r"ratio .* found inf"),
        (lambda: Attention(divisor=0), r"divisor .* at least 1, found 0"),
        (lambda: Attention(act="gelu"), r"Unknown activation 'gelu'"),
        (lambda: Attention(gate="relu"), r"Unknown gate 'relu'. Valid: sigmoid, hsigmoid"),
    ],
)
def test_bad_fields(make, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"block": "MBConv", "channels": 8, "kernle": 3}, r"unknown key 'kernle'.*mean 'kernel'"),
        ({"block": "MBConv", "channels": 8, 3: 3}, r"unknown key '3'"),
        ({"block": "MBConv"}, r"'MBConv': missing key\(s\) channels"),
        ({"block": "Head"}, r"channels, num_classes"),
        ({"block": "Skip", "channels": 8, "kernel": 3}, r"Valid: channels, stride"),
        ({"channels": 8}, r"mapping with the key 'block'"),
        (["MBConv"], r"mapping with the key 'block'"),
        ({"block": 3}, r"name of its type, found 3"),
        ({"block": ["MBConv"]}, r"name of its type, found \['MBConv'\]"),
        (
            {"block": "MBConv", "channels": 8, "attention": {"gat": "hsigmoid"}},
            r"Block 'MBConv': 'attention': unknown key 'gat'.*mean 'gate'",
        ),
        (
            {"block": "MBConv", "channels": 8, "attention": 1},
            r"Block 'MBConv': 'attention' must be a mapping .*found 1",
        ),
    ],
)
def test_bad_dicts(data, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        spec_from_dict(data)


def test_unknown_block_lists_and_suggests() -> None:
    with pytest.raises(
        UnknownNameError, match=r"Did you mean 'MBConv'.*Conv, Head,.* MBConv, .*Skip"
    ):
        spec_from_dict({"block": "MBCnv", "channels": 8})


def test_taken_name() -> None:
    with pytest.raises(UserError, match=r"already has 'MBConv'"):
        BLOCK_REGISTRY.register(SkipSpec, name="MBConv")


def test_unregistered_block_has_no_name() -> None:
    class Stranger(SkipSpec):
        pass

    with pytest.raises(ConfigError, match="Stranger is not in the BLOCK registry"):
        block_name(Stranger(channels=3))


def test_kernel_0_chooses_the_skip() -> None:
    choice = {"kernel": 0, "act": "swish", "splits": 4, "expansion": 3.0}
    assert MBConvSpec.from_choice(**choice, channels=24, stride=2) == SkipSpec(24, 2)
    choice["kernel"] = 5
    block = MBConvSpec.from_choice(**choice, channels=24, stride=2)
    assert block == MBConvSpec(24, 2, kernel=5, expansion=3.0, act="swish", splits=4)


def test_skip_is_the_identity_only_where_shapes_agree() -> None:
    assert isinstance(SkipSpec(8).build(8), nn.Identity)
    assert [name for name, _ in SkipSpec(8).build(4).named_children()] == ["conv", "bn", "act"]
    assert isinstance(SkipSpec(8, 2).build(8).act, nn.ReLU)
    assert SkipSpec(8).cost(8, 5, 5) == (0, 0)
    assert SkipSpec(8).cost(4, 5, 5) == (32 * 25, 32)
    assert SkipSpec(8, 2).cost(8, 5, 5) == (64 * 9, 64)


def test_mbconv_layout() -> None:
    block = MBConvSpec(channels=8, kernel=5, expansion=3.0, act="swish", splits=4).build(8)
    assert isinstance(block, MBConv)
    assert block.expand.conv.weight.shape == (24, 8, 1, 1)
    assert block.depthwise.conv.weight.shape == (96, 1, 5, 5)
    assert block.attention.fc1.weight.shape[:2] == (8, 24)  # div8(24 // 4)
    assert block.attention.fc2.weight.shape[:2] == (96, 8)
    assert block.project.conv.weight.shape == (8, 24, 1, 1)
    assert not hasattr(block.project, "act")


@pytest.mark.parametrize(
    ("spec", "shortcut"),
    [
        (MBConvSpec(channels=8), True),
        (MBConvSpec(channels=8, stride=2), False),
        (MBConvSpec(channels=16), False),
        (MBConvSpec(channels=8, shortcut="always"), True),
    ],
)
def test_mbconv_shortcut(spec: MBConvSpec, shortcut: bool) -> None:
    block, x = spec.build(8).eval(), torch.randn(2, 8, 6, 6)
    branch = block.project(block.attention(block.depthwise(block.expand(x))))
    torch.testing.assert_close(block(x), x + branch if shortcut else branch)


@pytest.mark.parametrize("channels", [5, 8, 13])
@pytest.mark.parametrize(("stride", "size"), [(1, 5), (2, 6), (2, 5), (3, 7)])
def test_mbconv_shortcut_always(channels: int, stride: int, size: int) -> None:
    """Means of the pixels that are there, channels cut or filled up with zeros, and no weights."""
    spec = MBConvSpec(channels=channels, stride=stride, shortcut="always")
    block, x = spec.build(8).eval(), torch.randn(2, 8, size, size)
    side = (size - 1) // stride + 1
    expected = torch.zeros(2, channels, side, side)
    for i, j in itertools.product(range(side), repeat=2):
        window = x[:, :channels, i * stride : (i + 1) * stride, j * stride : (j + 1) * stride]
        expected[:, : window.shape[1], i, j] = window.mean((2, 3))
    branch = block.project(block.attention(block.depthwise(block.expand(x))))
    torch.testing.assert_close(block(x), expected + branch)
    torch.testing.assert_close(block.shortcut.resized(x), expected)
    plain = dataclasses.replace(spec, shortcut="equal")
    assert list(block.state_dict()) == list(plain.build(8).state_dict())
    assert spec.cost(8, size, size) == plain.cost(8, size, size)


def test_expansion_1_has_no_expanding_convolution() -> None:
    block = MBConvSpec(channels=8, expansion=1).build(12)
    assert isinstance(block.expand, nn.Identity)
    assert block.depthwise.conv.weight.shape == (12, 1, 3, 3)  # not rounded to 16


def test_rare_fields_are_written_where_they_differ() -> None:
    assert spec_to_dict(MBConvSpec(channels=8)) == {
        "block": "MBConv",
        "channels": 8,
        "stride": 1,
        "kernel": 3,
        "expansion": 6.0,
        "act": "relu",
        "splits": 0,
    }
    spec = MBConvSpec(channels=8, splits=1, attention=Attention(of="input", gate="hsigmoid"))
    assert spec_to_dict(spec)["attention"] == {"of": "input", "gate": "hsigmoid"}


@pytest.mark.parametrize(
    ("attention", "in_channels", "inner", "hidden"),
    [
        (Attention(), 16, 96, 24),
        (Attention(), 34, 34, 8),  # a quarter is cut to 8 before it is rounded
        (Attention(of="input", divisor=1), 24, 144, 6),
        (Attention(of="input", divisor=1), 22, 132, 5),
        (Attention(ratio=0.5), 16, 72, 40),
        (Attention(divisor=1), 3, 3, 1),
    ],
)
def test_hidden_channels(attention: Attention, in_channels: int, inner: int, hidden: int) -> None:
    assert attention.hidden_channels(in_channels, inner) == hidden


def test_attention_follows_its_conventions() -> None:
    attention = Attention(of="input", divisor=1, act="block", gate="hsigmoid")
    layer = MBConvSpec(channels=8, act="relu6", splits=1, attention=attention).build(12).attention
    assert layer.fc1.weight.shape[:2] == (3, 72)
    assert isinstance(layer.act, nn.ReLU6) and isinstance(layer.gate, nn.Hardsigmoid)
    layer = MBConvSpec(channels=8, act="relu6", splits=2).build(12).attention
    assert isinstance(layer.act, nn.ReLU) and isinstance(layer.gate, nn.Softmax)


def test_always_expand() -> None:
    block = MBConvSpec(channels=8, expansion=1, always_expand=True).build(12)
    assert block.expand.conv.weight.shape == (12, 12, 1, 1)


def test_padding_is_that_of_the_depthwise_convolution() -> None:
    block = MBConvSpec(channels=8, stride=2, padding="same").build(8)
    assert hasattr(block.depthwise, "pad") and not hasattr(block.project, "pad")
    assert not hasattr(MBConvSpec(channels=8, padding="same").build(8).depthwise, "pad")


def test_weights_of_a_supernet_keep_their_names() -> None:
    """They are in its checkpoints; a field added later does not rename them."""
    assert (
        ConvSpec(channels=8).weight_group("conv.weight", "paper") == "act=swish,kernel=3,stride=1"
    )
    same = ConvSpec(channels=8, padding="same").weight_group("conv.weight", "paper")
    assert same == "act=swish,kernel=3,padding=same,stride=1"
    head = PooledHeadSpec(channels=16, num_classes=5).weight_group("fc.weight", "paper")
    assert head == "act=hswish,num_classes=5"
