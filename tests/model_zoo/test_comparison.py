"""Networks that were trained alike, in one file and one table."""

from __future__ import annotations

from pathlib import Path

import pytest

from fpnas.config import list_configs
from fpnas.errors import ConfigError
from fpnas.model_zoo import markdown
from fpnas.model_zoo.comparison import (
    Comparison,
    Trained,
    comparisons,
    parse_comparisons,
    record_trainings,
)

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
    ten, forty = parse_comparisons(file.read_text())
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


def test_recipes_of_the_shipped_comparisons_are_shipped() -> None:
    assert {one.recipe for one in comparisons()} <= set(list_configs())
