"""Mappings to dataclasses and back: the same, or an error that names the place."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpnas.errors import ConfigError, DataError
from fpnas.utils.records import load_yaml, parse, to_plain


@dataclass(frozen=True)
class Point:
    x: float
    y: float = 0.0


@dataclass(frozen=True)
class Shape:
    name: str
    points: tuple[Point, ...]
    size: tuple[int, int] = (1, 1)
    label: int | str | None = None
    tags: tuple[str, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if not self.points:
            raise ConfigError("A shape has points.")


POINTS = st.builds(Point, x=st.floats(allow_nan=False), y=st.floats(allow_nan=False))
SHAPES = st.builds(
    Shape,
    name=st.text(),
    points=st.lists(POINTS, min_size=1).map(tuple),
    size=st.tuples(st.integers(), st.integers()),
    label=st.one_of(st.none(), st.integers(), st.text()),
    tags=st.lists(st.text()).map(tuple),
)


@given(SHAPES)
def test_round_trip(shape: Shape) -> None:
    plain = to_plain(shape)
    assert isinstance(plain["points"], list)
    assert parse(Shape, plain, "shape") == shape


def test_what_has_a_default_may_be_missing() -> None:
    shape = parse(Shape, {"name": "a", "points": [{"x": 1}]}, "shape")
    assert shape == Shape("a", (Point(1.0),))
    assert isinstance(shape.points[0].x, float)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nam": 1}, r"s.yaml: unknown key 'nam'. Did you mean 'name'\? Valid: name, points, size"),
        ({7: 1}, "s.yaml: unknown key '7'. Valid: name"),
        ({"name": 3}, "s.yaml: 'name' must be of type str, found 3"),
        ({"points": 3}, "s.yaml: 'points' must be a list, found 3"),
        ({"points": [3]}, r"s.yaml: 'points'\[0\] must be a mapping of keys to values, found 3"),
        ({"points": [{"y": 3}]}, r"'points'\[0\]: missing key\(s\) x; found y\."),
        ({"points": [{}]}, r"'points'\[0\]: missing key\(s\) x; found none\."),
        ({"points": [{"x": True}]}, r"'points'\[0\]: 'x' must be of type float, found True"),
        ({"points": []}, "s.yaml: A shape has points"),
        ({"size": [1]}, "s.yaml: 'size' must have 2 items, found 1"),
        ({"label": 1.5}, "s.yaml: 'label' must be of type int, found 1.5"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(Shape, {"name": "a", "points": [{"x": 1}], **changes}, "s.yaml")


@pytest.mark.parametrize("data", [None, {"y": 1}, {"x": "a"}, {"z": 1}])
def test_the_type_of_error_can_be_chosen(data: object) -> None:
    with pytest.raises(DataError, match="somewhere"):
        parse(Point, data, "somewhere", error=DataError)
    with pytest.raises(DataError, match=r"shape: 'points'\[0\]"):
        parse(Shape, {"name": "a", "points": [data]}, "shape", error=DataError)


def test_fields_without_a_reader_are_taken_as_they_are() -> None:
    readers = {"name": lambda value, where: f"{value} from {where}"}
    shape = parse(Shape, {"name": 1, "points": [3]}, "shape", readers=readers)
    assert shape == Shape("1 from shape: 'name'", [3])


def test_yaml_is_plain() -> None:
    assert load_yaml("a: [1, x]", "s.yaml") == {"a": [1, "x"]}
    with pytest.raises(ConfigError, match="s.yaml is not plain YAML"):
        load_yaml("!!python/object/apply:os.system [echo]", "s.yaml")
