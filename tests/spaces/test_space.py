"""Search spaces as combinatorics."""

from __future__ import annotations

import math

import pytest
import torch

from fpnas.errors import UserError
from fpnas.spaces.space import SearchSpace, SearchVariable, VariableGroup

SPACE = SearchSpace.from_variables("toy", [[[3, 5], ["a", "b", "c"]], [[0.5]], [[1, 2], [7, 8]]])


def test_counts_and_columns():
    assert SPACE.cardinalities == (2, 3, 1, 2, 2)
    assert SPACE.group_columns == ((0, 1), (2,), (3, 4))
    assert SPACE.num_architectures == 24
    assert SPACE.num_joint_parameters == 6 + 1 + 4
    assert SPACE.num_factorized_parameters == 2 + 3 + 1 + 2 + 2


def test_number_of_architectures_is_exact_beyond_64_bits():
    space = SearchSpace.from_variables("big", [[list(range(7))]] * 40)
    assert space.num_architectures == 7**40


def test_decode_gives_values_by_group():
    assert SPACE.decode(torch.tensor([1, 2, 0, 0, 1])) == [
        {"variable0": 5, "variable1": "c"},
        {"variable0": 0.5},
        {"variable0": 1, "variable1": 8},
    ]


def test_sample_is_uniform_and_follows_the_generator():
    choices = SPACE.sample(12_000, torch.Generator().manual_seed(3))
    SPACE.check(choices)
    _, counts = choices.unique(dim=0, return_counts=True)
    assert len(counts) == 24
    # 500 expected each; 5 standard deviations
    assert (counts - 500).abs().max() < 5 * math.sqrt(500)
    assert torch.equal(choices, SPACE.sample(12_000, torch.Generator().manual_seed(3)))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (torch.zeros(5), "int64"),
        ([0, 0, 0, 0, 0], "list"),
        (torch.zeros(4, dtype=torch.int64), r"V = 5.*\(4,\)"),
        (torch.tensor([[0, 3, 0, 0, 0]]), r"Choice 3 .*group0\.variable1.*valid: 0 to 2"),
        (torch.tensor([0, 0, 0, 0, -1]), r"Choice -1 .*group2\.variable1"),
    ],
)
def test_check_says_what_is_wrong(choices, message):
    with pytest.raises(UserError, match=message):
        SPACE.check(choices)


def test_decode_takes_one_architecture():
    with pytest.raises(UserError, match="one architecture"):
        SPACE.decode(SPACE.sample(2))


def test_unusable_spaces():
    kernel = SearchVariable("kernel", (3, 5))
    group = VariableGroup("stage", (kernel,))
    with pytest.raises(UserError, match="no values"):
        SearchVariable("kernel", ())
    with pytest.raises(UserError, match="no variables"):
        VariableGroup("stage", ())
    with pytest.raises(UserError, match="repeats a variable"):
        VariableGroup("stage", (kernel, kernel))
    with pytest.raises(UserError, match="no groups"):
        SearchSpace("empty", ())
    with pytest.raises(UserError, match="repeats a group"):
        SearchSpace("twice", (group, group))
