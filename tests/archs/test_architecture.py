from __future__ import annotations

import dataclasses
import itertools
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fpnas.archs import Architecture
from fpnas.blocks import Attention, ConvSpec, HeadSpec, MBConvSpec, PooledHeadSpec, SkipSpec
from fpnas.errors import ConfigError, UnknownNameError, UserError

CHANNELS = st.integers(1, 10_000)
STRIDES = st.integers(1, 3)
ODD = st.sampled_from([1, 3, 5, 7, 9])
ACTS = st.sampled_from(["relu", "relu6", "swish", "hswish"])
PADDINGS = st.sampled_from(["symmetric", "same"])
RATIOS = st.one_of(st.integers(1, 9), st.floats(1e-9, 1e9))
ATTENTIONS = st.builds(
    Attention,
    of=st.sampled_from(["expanded", "input"]),
    ratio=st.sampled_from([0.25, 0.5, 1, 1 / 3]),
    divisor=st.integers(1, 8),
    act=st.one_of(ACTS, st.just("block")),
    gate=st.sampled_from(["sigmoid", "hsigmoid"]),
)
BLOCKS = st.one_of(
    st.builds(SkipSpec, channels=CHANNELS, stride=STRIDES),
    st.builds(ConvSpec, channels=CHANNELS, kernel=ODD, stride=STRIDES, act=ACTS, padding=PADDINGS),
    st.builds(
        MBConvSpec,
        channels=CHANNELS,
        stride=STRIDES,
        kernel=ODD,
        expansion=RATIOS,
        act=ACTS,
        splits=st.sampled_from([0, 1, 2, 4]),
        attention=ATTENTIONS,
        padding=PADDINGS,
        always_expand=st.booleans(),
    ),
)
HEADS = st.one_of(
    st.builds(HeadSpec, channels=CHANNELS, num_classes=CHANNELS, act=ACTS),
    st.builds(PooledHeadSpec, channels=CHANNELS, num_classes=CHANNELS, expansion=RATIOS, act=ACTS),
)
# Printable, and what YAML would read as something else than text.
NAMES = st.one_of(
    st.text(st.characters(exclude_categories=("C",)), max_size=20),
    st.sampled_from(["", "yes", "null", "1e3", "0x10", "2020-01-01", "- a", "a: b", "#", "é\n b"]),
)
ARCHITECTURES = st.builds(
    Architecture,
    name=NAMES,
    input_size=st.integers(1, 1000),
    stem=BLOCKS,
    stages=st.lists(
        st.lists(BLOCKS, min_size=1, max_size=3).map(tuple), min_size=1, max_size=4
    ).map(tuple),
    head=HEADS,
    in_channels=st.integers(1, 4),
    bn_eps=st.sampled_from([1e-5, 1e-3, 0.1]),
)


def small(**changes) -> Architecture:
    fields = {
        "name": "small",
        "input_size": 32,
        "stem": ConvSpec(channels=8, stride=2),
        "stages": (
            (MBConvSpec(channels=8, expansion=1),),
            (MBConvSpec(channels=16, stride=2, splits=2), SkipSpec(channels=16)),
        ),
        "head": HeadSpec(channels=32, num_classes=10),
    }
    return Architecture(**{**fields, **changes})


@given(ARCHITECTURES)
def test_yaml_round_trip(arch: Architecture) -> None:
    text = arch.to_yaml()
    again = Architecture.from_yaml(text)
    assert again == arch
    assert hash(again) == hash(arch)
    assert again.to_yaml() == text


def test_yaml_has_one_line_a_block() -> None:
    lines = small().to_yaml().splitlines()
    assert sum("block:" in line for line in lines) == 5
    assert lines[:3] == ["name: small", "input_size: 32", "in_channels: 3"]


def test_what_is_as_usual_need_not_be_written() -> None:
    assert "bn_eps" not in small().to_yaml() and "padding" not in small().to_yaml()
    assert Architecture.from_yaml(small(bn_eps=0.001).to_yaml()).bn_eps == 0.001
    data = small().to_dict()
    del data["in_channels"], data["stages"][1][0]["kernel"], data["head"]["act"]
    assert Architecture.from_dict(data) == small()


def test_equality_is_that_of_the_numbers() -> None:
    assert small() == small() and hash(small()) == hash(small())
    assert small() != small(input_size=33)
    assert small() != small(stages=(*small().stages, (SkipSpec(channels=16),)))
    assert len({small(), small(), small(name="other")}) == 2


def test_lists_of_stages_become_tuples() -> None:
    assert small(stages=[list(stage) for stage in small().stages]) == small()


def test_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        small().name = "other"


def test_with_num_classes() -> None:
    arch = small().with_num_classes(3)
    assert (arch.num_classes, small().num_classes) == (3, 10)
    assert arch == small(head=HeadSpec(channels=32, num_classes=3))
    assert arch.params == small().params - 7 * 32


def test_blocks_are_those_between_stem_and_head() -> None:
    assert small().blocks == tuple(block for stage in small().stages for block in stage)


def test_layers() -> None:
    layers = small().layers()
    assert [layer.name for layer in layers] == ["stem", "stage1.0", "stage2.0", "stage2.1", "head"]
    assert [layer.in_channels for layer in layers] == [3, 8, 8, 16, 16]
    assert [layer.in_size for layer in layers] == [32, 16, 16, 8, 8]
    assert [layer.out_size for layer in layers] == [16, 16, 8, 8, 8]
    assert layers[0].cost == (27 * 8 * 16 * 16, 27 * 8)
    assert layers[3].cost == (0, 0)
    assert layers[4].cost == (16 * 32 * 64 + 320, 16 * 32 + 320)


@given(ARCHITECTURES, st.integers(1, 300))
def test_costs_are_the_sums_over_layers(arch: Architecture, size: int) -> None:
    layers = arch.layers(size)
    assert len(layers) == len(arch.blocks) + 2
    assert arch.flops(size) == sum(layer.cost.flops for layer in layers)
    assert arch.params == sum(layer.cost.params for layer in layers)
    for before, after in itertools.pairwise(layers):
        assert after.in_size == before.out_size
        assert after.in_channels == before.spec.channels
    assert arch.flops() == arch.flops(arch.input_size)


@pytest.mark.parametrize("size", [0, -3])
def test_layers_of_an_impossible_input(size: int) -> None:
    with pytest.raises(ConfigError, match=f"input_size .* found {size}"):
        small().flops(size)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_size": 0}, "'small': input_size .* found 0"),
        ({"input_size": 32.0}, "input_size .* found 32.0"),
        ({"in_channels": "3"}, "in_channels .* found '3'"),
        ({"bn_eps": 0.0}, "'small': bn_eps must be .* such as 0.001, found 0.0"),
        ({"bn_eps": "1e-3"}, "bn_eps .* found '1e-3'"),
        ({"stages": ()}, "needs stages"),
        ({"stages": ((),)}, "needs stages with at least one block in each"),
        ({"head": MBConvSpec(channels=8)}, "ends in its one head.*found MBConv"),
        ({"stages": ((HeadSpec(channels=8, num_classes=2),),)}, "after 1 other head"),
    ],
)
def test_bad_fields(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(**changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", r"must be a mapping .*, found \[1, 2\]"),
        ("", "must be a mapping .*, found None"),
        ("name: [", "is not plain YAML"),
        ("!!python/object/apply:os.system ['true']", "is not plain YAML"),
        ("name: a\ninput_sze: 3", "unknown key 'input_sze'. Did you mean 'input_size'"),
        ("name: a", r"missing key\(s\) input_size, stem, stages, head; found name"),
    ],
)
def test_bad_yaml(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Architecture.from_yaml(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": None}, "list of lists"),
        ({"stages": [{"block": "Skip", "channels": 8}]}, "list of lists"),
        ({"stages": [[3]]}, r"'stages'\[0\]\[0\]: A block is a .*'block', found 3"),
        ({"stem": {"block": "Conv", "channels": 8, "act": ["relu"]}}, "Unknown activation"),
        ({"stem": {"block": "Conv"}}, r"'stem': Block 'Conv': missing key\(s\) channels"),
    ],
)
def test_bad_blocks_in_yaml(changes: dict, message: str) -> None:
    text = yaml.safe_dump({**small().to_dict(), **changes})
    with pytest.raises(ConfigError, match=message):
        Architecture.from_yaml(text)


def test_save_and_load(tmp_path) -> None:
    arch = small(name="größer")
    arch.save(tmp_path / "a.yaml")
    assert Architecture.load(tmp_path / "a.yaml") == arch


def test_load_names_the_file(tmp_path) -> None:
    path = tmp_path / "a.yaml"
    with pytest.raises(ConfigError, match=f"{re.escape(str(path))}' cannot be read"):
        Architecture.load(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=f"{re.escape(str(path))}' cannot be read"):
        Architecture.load(path)
    path.write_text("name: a")
    with pytest.raises(ConfigError, match=f"{re.escape(str(path))}'.*missing key"):
        Architecture.load(path)
    path.write_text(small().to_yaml().replace("block: Skip", "block: Skp"))
    with pytest.raises(
        UnknownNameError, match=f"{re.escape(str(path))}'.*\\[1\\]\\[1\\].*mean 'Skip'"
    ):
        Architecture.load(path)
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        Architecture.load(tmp_path)
