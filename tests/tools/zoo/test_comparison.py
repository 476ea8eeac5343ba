"""Networks that were trained alike, in one file and one table."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fpnas.config import list_configs
from fpnas.errors import ConfigError
from fpnas.model_zoo.manifest import zoo_folder
from fpnas_zoo import markdown
from fpnas_zoo.comparison import (
    Comparison,
    Trained,
    comparisons,
    draw_networks,
    networks_of,
    record_trainings,
)

SVG = "{http://www.w3.org/2000/svg}"

RANDOM = [Trained(f"random-6m-{i}", 5_800_000 + i, 100_000, 0, 80.0 + i) for i in range(3)]
FOUND = [Trained("fp_nas_x", 5_900_000, 200_000, seed, 84.0 + seed) for seed in range(2)]


def compared(*trained: Trained, epochs: int = 10) -> Comparison:
    return Comparison("zoo/CIFAR10.yaml", "photos", 32, epochs, trained)


def test_a_row_for_each_network_and_one_for_all_random_ones() -> None:
    random, found = compared(*FOUND, *RANDOM).rows()
    assert (random.name, random.networks, random.trainings) == ("random-6m", 3, 3)
    assert (random.top1, random.spread, random.best) == (81.0, 1.0, 82.0)
    assert (found.name, found.networks, found.trainings) == ("fp_nas_x", 1, 2)
    assert (found.top1, found.best) == (84.5, 85.0) and found.spread == pytest.approx(0.5**0.5)
    (alone,) = compared(FOUND[0]).rows()
    assert alone.spread is None


def test_trainings_join_those_that_were_trained_alike(tmp_path: Path) -> None:
    file = tmp_path / "comparison.yaml"
    record_trainings(file, compared(*FOUND))
    record_trainings(file, compared(FOUND[0], epochs=40))
    again = Trained("fp_nas_x", 5_900_000, 200_000, 1, 90.0)
    record_trainings(file, compared(again, *RANDOM))
    ten, forty = comparisons(file)
    assert {one.network for one in ten.trained} == {"fp_nas_x", *(r.network for r in RANDOM)}
    assert len(ten.trained) == 5 and again in ten.trained
    assert forty.trained == (FOUND[0],)


def test_a_file_that_cannot_be_used_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "comparison.yaml"
    file.write_text("comparisons: [{recipe: x}]")
    with pytest.raises(ConfigError, match="missing key"):
        record_trainings(file, compared(*FOUND))
    assert file.read_text() == "comparisons: [{recipe: x}]"


def test_model_zoo_md_has_the_table_and_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown, "comparisons", lambda: (compared(*FOUND, *RANDOM),))
    text = markdown.model_zoo_text()
    (row,) = [line for line in text.splitlines() if line.startswith("| `random-6m`")]
    assert [cell.strip() for cell in row.split("|")[2:-1]] == [
        *("3", "3", "5.80", "0.10"),
        *("81.00", "1.00", "82.00"),
    ]
    assert "photos, 32 px, 10 epochs" in text
    assert "--config-file zoo/CIFAR10.yaml" in text and "SOLVER.EPOCHS 10" in text


def words_and_marks(svg: str) -> tuple[list[str], int]:
    """What is written in a plot, and how many points and ticks it has."""
    root = ElementTree.fromstring(svg)
    words = [element.text or "" for element in root.iter(f"{SVG}text")]
    return words, len(list(root.iter(f"{SVG}use")))


def test_plot_has_a_point_for_each_network_and_names_the_found_ones() -> None:
    others = [Trained("mobilenetv2-3m", 2_900_000, 90_000, seed, 75.0) for seed in range(2)]
    few = words_and_marks(draw_networks(networks_of([*FOUND, *RANDOM[:2]])))
    words, marks = words_and_marks(draw_networks(networks_of([*FOUND, *RANDOM])))
    assert {"FP-NAS", "random", "fp_nas_x"} <= set(words) and "random-6m-0" not in words
    assert marks == few[1] + 1
    words, _ = words_and_marks(draw_networks(networks_of([*FOUND, *RANDOM, *others])))
    assert "mobilenetv2" in words


def lines(svg: str) -> int:
    """Strokes without a fill that are clipped to the axes: the grid and the lines of families."""
    return len(re.findall(r'<path d="[^"]*" clip-path="[^"]*" style="fill: none', svg))


def test_random_networks_are_not_joined() -> None:
    """A line through points of one budget would say nothing."""
    others = [replace(one, network=one.network.replace("random", "plain")) for one in RANDOM]
    assert lines(draw_networks(networks_of(others))) > lines(draw_networks(networks_of(RANDOM)))


def test_plots_of_the_zoo_are_up_to_date() -> None:
    """If this fails: python tools/zoo/tables.py --write"""
    files = {path.name: path.read_text("utf-8") for path in (zoo_folder() / "plots").glob("*.svg")}
    expected = markdown.plots()
    assert files.keys() == expected.keys()
    for name, svg in files.items():
        assert words_and_marks(svg) == words_and_marks(expected[name])
        assert f"(plots/{name})" in markdown.model_zoo_text()


def test_two_networks_are_no_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown, "comparisons", lambda: (compared(*FOUND, RANDOM[0]),))
    assert not markdown.plots() and "](plots/" not in markdown.model_zoo_text()


def test_recipes_of_the_shipped_comparisons_are_shipped() -> None:
    assert {one.recipe for one in comparisons()} <= set(list_configs())
