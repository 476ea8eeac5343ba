from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNet

from fpnas.archs import Architecture, get_arch
from fpnas.blocks import Attention, ConvSpec, HeadSpec, MBConvSpec, PooledHeadSpec, SkipSpec
from fpnas.contrib.timm import from_timm, to_timm
from fpnas.errors import ConfigError
from fpnas.model_zoo.layouts import from_timm_state
from fpnas.spaces import get_space

ROUNDED, HEAD = Attention(), HeadSpec(64, 10, "relu")

CODES = st.sampled_from(["", "_nre", "_nr6", "_nhs", "_nsw"])
ATTENTION = st.sampled_from(["", "", "_se0.25", "_se0.5", "_se0.3"])
EXPANSION = st.sampled_from([1, 2, 3, 6, 0.5, 2.3, 3.67, 4.5])
CONVENTIONS = st.sampled_from(
    [
        {},
        {"attention": Attention(gate="hsigmoid")},
        {"attention": Attention(act="block", gate="hsigmoid")},
        {"act": "swish", "padding": "same", "bn_eps": 1e-3},
        {"act": "relu6", "divisor": 1},
    ]
)


@st.composite
def strings(draw: st.DrawFn, stride: int = 1) -> str:
    """One string of a stage."""
    kind = draw(st.sampled_from(["ds", "ir", "ir", "cn"]))
    text = f"{kind}_r{draw(st.integers(1, 3))}_k{draw(st.sampled_from([1, 3, 5, 7]))}_s{stride}"
    text += f"_e{draw(EXPANSION)}" if kind == "ir" else ""
    text += f"_c{8 * draw(st.integers(1, 20))}"
    return text + (draw(ATTENTION) if kind != "cn" else "") + draw(CODES)


@st.composite
def arch_defs(draw: st.DrawFn) -> list[list[str]]:
    strides = draw(st.lists(st.sampled_from([1, 2]), min_size=1, max_size=4))
    return [[draw(strings(stride)), *draw(st.lists(strings(), max_size=2))] for stride in strides]


@given(arch_defs(), CONVENTIONS)
def test_round_trip(arch_def: list[list[str]], conventions: dict) -> None:
    """Strings of a network are a normal form, and they make the same network again."""
    arch = from_timm(arch_def, name="net", **conventions)
    assert arch.name == "net" and len(arch.stages) == len(arch_def)
    written = to_timm(arch, conventions.get("divisor", 8))
    again = from_timm(written, name="net", **conventions)
    assert again == arch
    assert to_timm(again, conventions.get("divisor", 8)) == written


BLOCKS = st.one_of(
    st.builds(SkipSpec, channels=st.integers(1, 40)),
    st.builds(
        MBConvSpec,
        channels=st.integers(1, 40),
        kernel=st.sampled_from([3, 5]),
        expansion=st.sampled_from([0.5, 0.75, 1, 1.1, 2.25, 3, 5.4566]),
        act=st.sampled_from(["relu", "swish"]),
        splits=st.sampled_from([0, 1]),
    ),
)


@given(st.lists(st.lists(BLOCKS, min_size=1, max_size=4), min_size=1, max_size=3))
def test_networks_of_the_spaces_keep_their_weights(stages: list) -> None:
    """Ours have any number of channels (divisor 1); a ratio may change, a width never does."""
    arch = Architecture("net", 32, ConvSpec(16, act="relu"), stages, HeadSpec(64, 10, "relu"))
    if all(isinstance(block, SkipSpec) and block.channels == 16 for block in arch.blocks):
        return  # nothing would be left
    again = from_timm(
        to_timm(arch, divisor=1),
        name="net",
        input_size=32,
        stem=arch.stem,
        head=arch.head,
        attention=Attention(),
        divisor=1,
    )
    assert (again.flops(), again.params) == (arch.flops(), arch.params)
    own = [block for block in arch.blocks if isinstance(block, MBConvSpec)]
    made = [block for block in again.blocks if isinstance(block, MBConvSpec)]
    assert [(b.channels, b.kernel, b.act, b.splits) for b in made] == [
        (b.channels, b.kernel, b.act, b.splits) for b in own
    ]


@settings(max_examples=12)
@given(arch_defs())
def test_timm_builds_the_same_network_of_the_same_strings(arch_def: list[list[str]]) -> None:
    """Names and shapes of all weights; from what we read and from what we write."""
    arch = from_timm(arch_def, name="net")
    for text in (arch_def, to_timm(arch)):
        with torch.device("meta"):
            theirs = EfficientNet(decode_arch_def(text))
        from_timm_state(theirs.state_dict(), arch)


@pytest.mark.parametrize("name", ["mobilenetv3_large_100", "hardcorenas_f", "fbnetv2_f4"])
def test_named_networks_with_pooled_heads(name: str) -> None:
    arch = get_arch(name)
    attention = next(block.attention for block in arch.blocks if getattr(block, "splits", 0))
    again = from_timm(
        to_timm(arch),
        name=name,
        input_size=arch.input_size,
        act=arch.stem.act,
        stem=arch.stem,
        head=arch.head,
        attention=attention,
    )
    assert (again.flops(), again.params) == (arch.flops(), arch.params)
    if name != "fbnetv2_f4":  # which has skips
        assert again == arch


def test_strings_as_published() -> None:
    assert to_timm(get_arch("mobilenetv3_small_100")) == [
        ["ds_r1_k3_s2_c16_se0.25_nre"],
        ["ir_r1_k3_s2_e4.5_c24_nre", "ir_r1_k3_s1_e3.67_c24_nre"],
        ["ir_r1_k5_s2_e4_c40_se0.25", "ir_r2_k5_s1_e6_c40_se0.25"],
        ["ir_r2_k5_s1_e3_c48_se0.25"],
        ["ir_r3_k5_s2_e6_c96_se0.25"],
        ["cn_r1_k1_s1_c576"],
    ]
    assert to_timm(get_arch("spnasnet_100"))[2] == ["ir_r1_k5_s2_e6_c40", "ir_r3_k3_s1_e3_c40"]
    assert to_timm(get_arch("fbnetc_100"))[1] == ["ir_r1_k3_s2_e6_c24", "ir_r2_k3_s1_e1_c24"]


def test_defaults_and_options() -> None:
    arch = from_timm(
        [["ds_r1_k3_s1_e9_c16_noskip_d0"], ["ir_r2_k5_s2_e3_c22_se0.25_nsw"]], name="a"
    )
    first = MBConvSpec(24, 2, 5, 3, "swish", 1, Attention(of="input", divisor=1, act="block"))
    assert arch.stem == ConvSpec(32, 3, 2, "relu")
    assert arch.head == HeadSpec(1280, 1000, "relu")
    assert arch.stages == (
        (MBConvSpec(16, expansion=1),),
        (first, dataclasses.replace(first, stride=1)),
    )


def test_timms_rounding() -> None:
    """17 inner channels are 24 to us and 16 to timm; 26 hidden ones 32 and 24."""
    arch = from_timm([["ir_r1_k3_s1_e2.125_c8"]], name="a", stem=ConvSpec(8))
    assert arch.blocks[0].inner_channels(8) == 16
    arch = from_timm([["ds_r1_k3_s1_c8_se0.25"]], name="a", stem=ConvSpec(104), attention=ROUNDED)
    assert arch.blocks[0].attention.hidden_channels(104, 104) == 24
    arch = Architecture("a", 32, ConvSpec(104), [[MBConvSpec(104, 1, 3, 1, "swish", 1)]], HEAD)
    again = from_timm(to_timm(arch), name="a", stem=arch.stem, attention=ROUNDED)
    assert again.blocks[0].attention.hidden_channels(104, 104) == 32


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("er_r1_k3_s1_e4_c24", "'er' .* ds, ir, cn"),
        ("ir_r1_k3_s1_c24", "'e' .* missing"),
        ("ir_k3_s1_e3_c24", "'r' .* missing"),
        ("ir_r1_k3.5_s1_e3_c24", "'k3.5' .* whole number"),
        ("ir_r1_k4_s1_e3_c24", "kernel must be odd, found 4"),
        ("ir_r0_k3_s1_e3_c24", "'r0' .* at least 1"),
        ("ir_r1_k3_s3_e3_c24", "'s3' .* strides are 1 or 2"),
        ("ir_r1_k3_s1_e3_c24_nmi", "'nmi' .* nre nr6 nhs nsw"),
        ("ir_r1_k3_s1_e3_c24_d1", "'d1' cannot"),
        ("ir_r1_k3_s1_e3_c24_gs8", "'gs8' cannot"),
        ("ir_r1_k3_a3_s1_e3_c24", "'a3' cannot"),
        ("ir_r1_k3_s1_e0_c24", "expansion must be a number above 0"),
        ("ir_r1_k3_s1_e1x_c24", "'e1x' .* number"),
        ("ir_r1_k3_s1_e1e999_c24", "'e1e999' .* number"),
        ("ir_r1_k3_s1_e3_c32_noskip", "'noskip' .* shortcut"),
        ("cn_r1_k3_s1_c32_skip", "'skip' .* shortcut"),
        ("cn_r1_k3_s1_c32_se0.25", "'se0.25' .* 'cn' has r k s c"),
    ],
)
def test_what_cannot_be_read_names_string_and_part(text: str, part: str) -> None:
    with pytest.raises(ConfigError, match=f"^timm's '{text}': (?!timm's).*{part}"):
        from_timm([["ds_r1_k3_s1_c32"], [text]], name="a")


def test_other_unreadable_arch_defs() -> None:
    with pytest.raises(ConfigError, match="list of strings, found 'ds_r1_k3_s1_c16'"):
        from_timm(["ds_r1_k3_s1_c16"], name="a")
    with pytest.raises(ConfigError, match=r"'s2' .* 32 in all"):
        from_timm([["ir_r1_k3_s2_e3_c8"]] * 5, name="a")
    with pytest.raises(ConfigError, match=r"'cn_r1_k1_s1_c96' with activation hswish; found"):
        from_timm([["ds_r1_k3_s1_c16"], ["cn_r1_k1_s1_c96"]], name="a", head=PooledHeadSpec(64, 10))
    with pytest.raises(ConfigError, match="'a' needs stages"):
        from_timm([], name="a")


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([MBConvSpec(16, splits=2)], r"stage1.0, .*: timm has no Split-Attention"),
        ([MBConvSpec(16), MBConvSpec(16, 2)], r"stage1.1, .*of 'ir_r1_k3_s2_e6_c16' timm makes"),
        ([MBConvSpec(20)], r"stage1.0, .*timm makes MBConvSpec\(channels=24"),
        ([MBConvSpec(16, 2, padding="same"), MBConvSpec(16, 2)], "one convention for all blocks"),
        (
            [MBConvSpec(16, splits=1), MBConvSpec(16, splits=1, attention=Attention(act="block"))],
            "one convention for all blocks",
        ),
        ([MBConvSpec(16, 2, shortcut="always")], r"stage1.0, .*shortcut only where the shape"),
        ([PooledHeadSpec(16, 10)], "head"),
    ],
)
def test_what_cannot_be_written(blocks: list, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        to_timm(Architecture("a", 32, ConvSpec(16, act="relu"), (tuple(blocks),), HeadSpec(64, 10)))


def test_a_shortcut_that_is_there_anyway() -> None:
    """Here "always" is no other network than "equal"."""
    stages = ((MBConvSpec(16, shortcut="always"), MBConvSpec(16, shortcut="always")),)
    arch = Architecture("a", 32, ConvSpec(16, act="relu"), stages, HeadSpec(64, 10))
    assert to_timm(arch) == [["ir_r2_k3_s1_e6_c16"]]


def test_networks_of_a_space_without_split_attention() -> None:
    space = get_space("FBNetV2-F")
    for choices in space.sample(20, torch.Generator().manual_seed(0)):
        arch = space.architecture(choices)
        again = from_timm(
            to_timm(arch, divisor=1),
            name="a",
            input_size=arch.input_size,
            act="swish",
            stem=arch.stem,
            head=arch.head,
            attention=Attention(),
            divisor=1,
        )
        assert (again.flops(), again.params) == (arch.flops(), arch.params)
