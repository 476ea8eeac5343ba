"""The drawing of an architecture."""

from __future__ import annotations

import dataclasses
import itertools
import re
from importlib import resources
from xml.etree import ElementTree as ET

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fpnas.archs import Architecture
from fpnas.blocks import BLOCK_REGISTRY, BlockSpec, ConvSpec, Cost, HeadSpec, MBConvSpec, SkipSpec
from fpnas.report import draw_architecture
from fpnas.spaces import SPACE_REGISTRY, get_space

SVG = "{http://www.w3.org/2000/svg}"


def blocks_of(drawing: ET.Element) -> list[ET.Element]:
    return drawing.findall(f".//{SVG}g[@class='block']")


def texts_of(element: ET.Element) -> list[str]:
    return [text.text or "" for text in element.iter(f"{SVG}text")]


def outlines_of(drawing: ET.Element) -> list[ET.Element]:
    return [block.find(f"{SVG}path") for block in blocks_of(drawing)]


def corners(outline: ET.Element) -> list[tuple[float, float]]:
    """The four corners of a box: upper left, upper right, lower right, lower left."""
    pairs = re.findall(r"Q(-?[\d.]+) (-?[\d.]+)", outline.get("d"))
    return [(float(x), float(y)) for x, y in pairs]


def small_arch(*blocks: BlockSpec, name: str = "small") -> Architecture:
    return Architecture(name, 32, ConvSpec(16, 3, 2), (blocks,), HeadSpec(256, 10))


@pytest.mark.parametrize("space_name", SPACE_REGISTRY.names())
@settings(max_examples=6)
@given(seed=st.integers(0, 2**31))
def test_every_block_of_every_space_has_one_box(space_name: str, seed: int) -> None:
    space = get_space(space_name)
    choices = space.sample(1, torch.Generator().manual_seed(seed))[0]
    arch = space.architecture(choices)

    drawing = ET.fromstring(draw_architecture(arch))

    layers = arch.layers()
    blocks = blocks_of(drawing)
    assert len(blocks) == len(layers)
    for layer, block in zip(layers, blocks, strict=True):
        assert block.find(f"{SVG}title").text.startswith(f"{layer.name}: ")
        assert str(layer.spec.channels) in texts_of(block)
    outlines = outlines_of(drawing)
    dashed = ["skip" in outline.get("class") for outline in outlines]
    assert dashed == [isinstance(layer.spec, SkipSpec) for layer in layers]
    # Boxes lie inside the picture, and those of a row do not overlap.
    width = float(drawing.get("width"))
    spans = [(corners(outline)[0], corners(outline)[1]) for outline in outlines]
    assert all(0 < left[0] < right[0] < width for left, right in spans)
    for (_, right), (left, _) in itertools.pairwise(spans):
        assert left[0] > right[0] or left[0] == spans[0][0][0]  # or a new row begins


def test_title_shows_name_cost_and_input_size() -> None:
    arch = small_arch(MBConvSpec(24, 2, 3, 3.0), SkipSpec(24), name="A & <B>")

    texts = texts_of(ET.fromstring(draw_architecture(arch, input_size=64)))

    assert texts[0] == "A & <B>"
    assert f"{arch.flops(64) / 1e6:.3g} M FLOPs" in texts[1]
    assert f"{arch.params / 1e3:.3g} k params" in texts[1]
    assert "input 64 × 64" in texts[1]
    assert "2 blocks, 1 of them skips" in texts[1]


def test_width_grows_with_channels_and_edges_follow_the_resolution() -> None:
    arch = small_arch(MBConvSpec(24, 1), MBConvSpec(48, 2), MBConvSpec(96, 1))

    outlines = outlines_of(ET.fromstring(draw_architecture(arch)))

    boxes = [corners(outline) for outline in outlines]
    stem, narrow, middle, wide, _ = [right[0] - left[0] for left, right, *_ in boxes]
    assert stem < narrow < middle < wide
    assert narrow - stem == pytest.approx((middle - narrow) / 3, abs=0.05)  # 16, 24, 48 channels
    left_edges = [lower[1] - upper[1] for upper, _, _, lower in boxes]
    right_edges = [lower[1] - upper[1] for _, upper, lower, _ in boxes]
    tapered = [left > right for left, right in zip(left_edges, right_edges, strict=True)]
    assert tapered == [True, False, True, False, False]  # where the stride is 2
    assert left_edges[1:] == pytest.approx(right_edges[:-1])


def test_splits_are_segments_and_kernels_are_colours() -> None:
    specs = [MBConvSpec(24, 1, k, 3.0, "swish", r) for k, r in ((3, 0), (5, 1), (3, 2), (7, 4))]

    drawing = ET.fromstring(draw_architecture(small_arch(*specs)))

    searched = blocks_of(drawing)[1:-1]
    segments = [len(block.findall(f"{SVG}rect[@class='splits']")) for block in searched]
    assert segments == [0, 1, 2, 4]
    colours = [outline.get("class") for outline in outlines_of(drawing)[1:-1]]
    assert colours == ["box k3", "box k5", "box k3", "box k7"]
    legend = " ".join(texts_of(drawing.find(f".//{SVG}g[@class='legend']")))
    for label in ("kernel 3×3", "kernel 5×5", "kernel 7×7", "Squeeze-Excite", "4 splits", "swish"):
        assert label in legend
    assert "relu" not in legend and "skip" not in legend  # there are none


def test_flops_shares_add_up_and_the_longest_bar_is_the_largest_share() -> None:
    arch = small_arch(MBConvSpec(24, 1, 5, 4.5), MBConvSpec(40, 2, 3, 3.0), SkipSpec(40))

    blocks = blocks_of(ET.fromstring(draw_architecture(arch)))

    bars = [block.find(f"{SVG}rect[@class='share']") for block in blocks]
    widths = [0.0 if bar is None else float(bar.get("width")) for bar in bars]
    flops = [layer.cost.flops for layer in arch.layers()]
    assert widths == pytest.approx([max(widths) * f / max(flops) for f in flops], abs=1)
    assert widths[3] == 0  # the identity
    shares = [float(texts_of(block)[-1].removesuffix("\u202f%")) for block in blocks]
    assert sum(shares) == pytest.approx(100, abs=0.5)


def test_block_of_another_type_shows_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass(frozen=True)
    class Shuffle(BlockSpec):
        channels: int
        stride: int = 1

        def cost(self, in_channels: int, height: int, width: int) -> Cost:
            return Cost(0, 0)

        def build(self, in_channels: int) -> torch.nn.Module:
            return torch.nn.Identity()

    monkeypatch.setitem(BLOCK_REGISTRY._obj_map, "Shuffle", Shuffle)

    drawing = ET.fromstring(draw_architecture(small_arch(Shuffle(16))))

    assert "Shuffle" in texts_of(blocks_of(drawing)[1])


def test_drawing_refers_to_nothing_outside() -> None:
    drawing = draw_architecture(small_arch(MBConvSpec(24)))

    assert not re.search(r"https?://|url\(|href|@font-face", drawing.split(">", 1)[1])


def test_page_of_a_report_does_not_restyle_the_drawing() -> None:
    page = resources.files("fpnas.report").joinpath("page.html").read_text(encoding="utf-8")
    style = re.search(r"<style>(.*)</style>", page, re.DOTALL).group(1)
    selectors = re.sub(r"\{[^{}]*\}", " ", style)
    in_page = set(re.findall(r"\.([a-z][\w-]*)", selectors))

    specs = [MBConvSpec(24, 1, 3, 3.0, "swish", 2), SkipSpec(40)]
    drawing = ET.fromstring(draw_architecture(small_arch(*specs)))

    in_drawing = {c for e in drawing.iter() for c in e.get("class", "").split()}
    assert {"plain", "box", "skip"} <= in_drawing and {"tile", "listing"} <= in_page
    assert in_page & in_drawing == {"fpnas-drawing"}
