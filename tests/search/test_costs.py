"""The range of cost of a space, and targets that are none."""

from __future__ import annotations

import math

import pytest
from search_cases import SPACE, additive_case, all_choices, lumpy_cost

from fpnas.errors import UserError
from fpnas.search.costs import check_reachable, cost_range


def test_cost_range():
    costs = lumpy_cost(all_choices(SPACE))
    assert cost_range(SPACE, lumpy_cost) == (costs.min(), costs.max())
    space, _, cost = additive_case()
    assert cost_range(space, cost) == (1, 73)


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan, math.inf])
def test_targets_are_positive_numbers(target):
    with pytest.raises(UserError, match="positive number"):
        check_reachable(SPACE, lumpy_cost, target)
