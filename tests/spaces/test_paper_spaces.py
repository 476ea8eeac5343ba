"""The design sheet's numbers of the paper's spaces: counts, entropy, parameters, multiply-adds."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from fpnas.blocks import SkipSpec
from fpnas.spaces import PAPER_FIGURES, SPACE_REGISTRY, NetworkSpace, get_space

PAPER_SPACES = (
    "FBNetV2-F",
    "FBNetV2-F-Fine",
    "FBNetV2-F++",
    "FP-NAS-L0",
    "FP-NAS-L1",
    "FP-NAS-L2",
)


def restricted(space: NetworkSpace, **values: tuple) -> NetworkSpace:
    """The space with fewer values for some variables (where a group has these values)."""
    groups = [
        dataclasses.replace(
            group,
            variables={
                name: tuple(v for v in own if v in values.get(name, own)) or own
                for name, own in group.variables.items()
            },
        )
        for group in space.block_groups
    ]
    return NetworkSpace(space.name, space.input_size, space.stem, groups, space.head)


def sampled_flops(space: NetworkSpace, n: int = 20_000) -> torch.Tensor:
    return space.flops(space.sample(n, torch.Generator().manual_seed(0))).double()


def test_registered() -> None:
    names = SPACE_REGISTRY.names()
    assert {*PAPER_SPACES, "FP-NAS-Micro", "FP-NAS-Mini", "FP-NAS-Mini++"} <= set(names)
    assert all(get_space(name).name == name for name in PAPER_SPACES)


@pytest.mark.parametrize(
    ("name", "groups", "blocks", "size"),
    [
        ("FBNetV2-F", 10, 17, 224),
        ("FBNetV2-F-Fine", 17, 17, 224),
        ("FBNetV2-F++", 10, 17, 224),
        ("FP-NAS-L0", 11, 27, 224),
        ("FP-NAS-L1", 12, 32, 240),
        ("FP-NAS-L2", 12, 32, 256),
    ],
)
def test_shape(name: str, groups: int, blocks: int, size: int) -> None:
    space = get_space(name)
    assert (len(space.groups), space.num_blocks, space.input_size) == (groups, blocks, size)
    assert len(space.variables) == 5 * groups
    assert space.num_classes == 1000
    assert len(space.architecture(space.sample(1)[0]).blocks) == blocks


@pytest.mark.parametrize(
    ("name", "count", "entropy"),
    [
        ("FBNetV2-F", "2.70e+24", 56.25),
        ("FBNetV2-F-Fine", "5.84e+42", 98.47),
        ("FP-NAS-L0", "1.86e+32", 74.30),
        ("FP-NAS-L1", "1.04e+36", 82.94),
        ("FP-NAS-L2", "1.04e+36", 82.94),
    ],
)
def test_count_and_entropy(name: str, count: str, entropy: float) -> None:
    architectures = get_space(name).num_architectures
    assert f"{architectures:.2e}" == count
    assert round(math.log(architectures), 2) == entropy  # nats


def test_split_attention_multiplies_the_count_by_1024() -> None:
    f, fpp = (get_space(name).num_architectures for name in ("FBNetV2-F", "FBNetV2-F++"))
    assert fpp == 1024 * f


def test_a_quarter_of_the_entropy_is_14_samples() -> None:
    assert math.floor(math.log(get_space("FBNetV2-F").num_architectures) / 4) == 14


@pytest.mark.parametrize(
    ("name", "distinct"),
    [
        ("FBNetV2-F", "6.33e+22"),
        ("FBNetV2-F++", "5.58e+25"),
        ("FBNetV2-F-Fine", "9.28e+39"),
        ("FP-NAS-L0", "2.53e+30"),
        ("FP-NAS-L1", "9.57e+33"),
        ("FP-NAS-L2", "9.57e+33"),
    ],
)
def test_distinct_networks(name: str, distinct: str) -> None:
    assert f"{get_space(name).num_distinct:.2e}" == distinct


@pytest.mark.parametrize(
    ("name", "joint", "factorized"),
    [
        ("FBNetV2-F", 3624, 177),
        ("FBNetV2-F++", 7248, 197),
        ("FBNetV2-F-Fine", 6792, 312),
        ("FP-NAS-L0", 11880, 245),
        ("FP-NAS-L1", 15336, 284),
        ("FP-NAS-L2", 15336, 284),
    ],
)
def test_architecture_parameters(name: str, joint: int, factorized: int) -> None:
    space = get_space(name)
    assert space.num_joint_parameters == joint
    assert space.num_factorized_parameters == factorized


def test_architecture_parameters_that_the_paper_prints() -> None:
    """Section 3: 720 and 23 for the cardinalities 3, 2, 2, 6, 10."""
    group = get_space("FBNetV2-F").groups[-1]
    cardinalities = [variable.cardinality for variable in group.variables]
    assert sorted(cardinalities) == [2, 2, 3, 6, 10]
    assert group.num_combinations == 720 and sum(cardinalities) == 23


# px: MFLOPs min, min without skips, median, max of F; median, max of F++; target
FBNETV2_F_MFLOPS = {
    128: (7.84, 15.4, 33.8, 107.3, 38.0, 161.2, 60),
    160: (11.13, 22.9, 51.6, 165.5, 58.0, 248.3, 90),
    192: (15.16, 32.1, 73.4, 236.7, 82.5, 354.9, 130),
    224: (19.92, 43.0, 99.2, 320.9, 111.4, 480.8, None),
    256: (25.40, 55.5, 128.9, 418.0, 144.7, 626.0, 250),
}


@pytest.mark.parametrize("size", FBNETV2_F_MFLOPS)
def test_fbnetv2_f_exact_range(size: int) -> None:
    least, least_without_skips, _, most, _, most_with_splits, _ = FBNETV2_F_MFLOPS[size]
    f, fpp = (get_space(name).at(input_size=size) for name in ("FBNetV2-F", "FBNetV2-F++"))
    for space, highest in ((f, most), (fpp, most_with_splits)):
        low, high = space.cost_range("flops")
        assert round(low / 1e6, 2) == least
        assert round(high / 1e6, 1) == highest
        low, high = restricted(space, kernel=(3, 5)).cost_range("flops")
        assert round(low / 1e6, 1) == least_without_skips
        assert round(high / 1e6, 1) == highest


@pytest.mark.parametrize(("splits", "mflops"), [(0, 105.6), (1, 107.3), (2, 125.2), (4, 161.2)])
def test_largest_model_by_splits(splits: int, mflops: float) -> None:
    space = restricted(get_space("FBNetV2-F++").at(input_size=128), splits=(splits,))
    assert round(space.cost_range("flops")[1] / 1e6, 1) == mflops


@pytest.mark.parametrize("size", FBNETV2_F_MFLOPS)
def test_fbnetv2_f_medians(size: int) -> None:
    _, _, median, _, median_with_splits, _, _ = FBNETV2_F_MFLOPS[size]
    for name, expected in (("FBNetV2-F", median), ("FBNetV2-F++", median_with_splits)):
        flops = sampled_flops(get_space(name).at(input_size=size))
        assert flops.median() / 1e6 == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("name", "size", "p5", "p95"),
    [
        ("FBNetV2-F", 128, 20.5, 49.8),
        ("FBNetV2-F", 160, 30.8, 76.4),
        ("FBNetV2-F", 192, 43.5, 108.9),
        ("FBNetV2-F", 224, 58.5, 147.4),
        ("FBNetV2-F", 256, 75.8, 191.9),
        ("FBNetV2-F++", 128, 22.3, 57.8),
        ("FBNetV2-F++", 160, 33.6, 88.6),
        ("FBNetV2-F++", 192, 47.5, 126.4),
        ("FBNetV2-F++", 224, 63.9, 170.8),
        ("FBNetV2-F++", 256, 82.8, 222.3),
        ("FP-NAS-L0", 224, 203, 627),
        ("FP-NAS-L1", 240, 465, 1425),
        ("FP-NAS-L2", 256, 562, 1757),
    ],
)
def test_tails(name: str, size: int, p5: float, p95: float) -> None:
    flops = sampled_flops(get_space(name).at(input_size=size)) / 1e6
    assert flops.quantile(0.05) == pytest.approx(p5, rel=0.02)
    assert flops.quantile(0.95) == pytest.approx(p95, rel=0.02)


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("FBNetV2-F", (0.0043, 0.0066, 0.0056, 0.0010)),
        ("FBNetV2-F++", (0.038, 0.047, 0.042, 0.016)),
    ],
)
def test_share_above_the_paper_targets(name: str, shares: tuple[float, ...]) -> None:
    for size, share in zip((128, 160, 192, 256), shares, strict=True):
        target = FBNETV2_F_MFLOPS[size][-1] * 1e6
        above = (sampled_flops(get_space(name).at(input_size=size)) > target).double().mean()
        # The sheet's share and ours are both of 20,000 draws.
        tolerance = 3.5 * math.sqrt(2 * share * (1 - share) / 20_000)
        assert above == pytest.approx(share, abs=tolerance)


@pytest.mark.parametrize(
    ("name", "median", "least", "most", "target", "share"),
    [
        ("FP-NAS-L0", 0.391, 0.032, 1.70, 0.4, 0.474),
        ("FP-NAS-L1", 0.900, 0.052, 3.72, 0.7, 0.758),
        ("FP-NAS-L2", 1.107, 0.058, 4.50, 1.0, 0.612),
    ],
)
def test_fp_nas_l_gflops(name, median, least, most, target, share) -> None:
    space = get_space(name)
    low, high = space.cost_range("flops")
    assert (round(low / 1e9, 3), round(high / 1e9, 2)) == (least, most)
    gflops = sampled_flops(space) / 1e9
    assert gflops.median() == pytest.approx(median, rel=0.01)
    assert (gflops > target).double().mean() == pytest.approx(share, abs=0.018)


def test_l_medians_at_other_inputs() -> None:
    """Why L2 has a table of its own: L1's at 256 px has a median of 1.00 GFLOPs."""
    space = get_space("FP-NAS-L1").at(input_size=256)
    assert sampled_flops(space).median() / 1e9 == pytest.approx(1.00, rel=0.01)


def test_largest_params() -> None:
    assert round(get_space("FBNetV2-F++").cost_range("params")[1] / 1e6, 1) == 8.7


def test_kernel_0_is_offered_in_every_group() -> None:
    for name in PAPER_SPACES:
        space = get_space(name)
        smallest = space.architecture([0] * len(space.variables))
        assert all(isinstance(block, SkipSpec) for block in smallest.blocks)


def test_paper_figures() -> None:
    assert set(PAPER_FIGURES) == set(PAPER_SPACES)
    printed = {name: figures.num_architectures for name, figures in PAPER_FIGURES.items()}
    assert printed == {
        "FBNetV2-F": 6e25,
        "FBNetV2-F-Fine": 1e45,
        "FBNetV2-F++": 6e28,
        "FP-NAS-L0": 2e32,
        "FP-NAS-L1": 1e36,
        "FP-NAS-L2": 1e36,
    }


@pytest.mark.parametrize("name", ["FP-NAS-L0", "FP-NAS-L1", "FP-NAS-L2"])
def test_l_spaces_reproduce_table_3(name: str) -> None:
    space, printed = get_space(name), PAPER_FIGURES[name]
    assert space.input_size == printed.input_size
    assert space.num_blocks == printed.num_blocks
    assert f"{space.num_architectures:.0e}" == f"{printed.num_architectures:.0e}"
    assert sampled_flops(space).median() == pytest.approx(printed.median_flops, rel=0.015)
