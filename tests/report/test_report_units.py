"""Numbers as people read them."""

from __future__ import annotations

import pytest

from fpnas.report import units


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (58_321_000, "FLOPs", "58.3 M FLOPs"),
        (999_600, "FLOPs", "1 M FLOPs"),
        (1.1e9, "FLOPs", "1.1 G FLOPs"),
        (37_500, "params", "37.5 k params"),
        (12.34, "ms", "12.3 ms"),
        (2_200_000, "", "2.2 M"),
        (0, "FLOPs", "0 FLOPs"),
    ],
)
def test_prefixed(value: float, unit: str, expected: str) -> None:
    assert units.prefixed(value, unit) == expected


def test_other_units() -> None:
    assert units.percent(0.1234) == "12.3 %"
    assert units.percent(0.0001) == "<0.1 %"
    assert units.percent(0) == "0.0 %"
    assert units.probability(0.25) == "25.0 %"
    assert units.probability(3.2e-7) == "3.20e-07"
    assert [units.duration(s) for s in (0.21, 48, 318, 7560)] == [
        "0.21 s",
        "48 s",
        "5.3 min",
        "2.1 h",
    ]
    assert units.count(67_184_640) == "67,184,640"
    assert units.count(27 * 10**23) == "2.7e24"
    assert units.scale_of(60e6) == (1e6, "M")
