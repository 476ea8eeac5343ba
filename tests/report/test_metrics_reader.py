"""Reading metrics.json."""

from __future__ import annotations

from pathlib import Path

import pytest

from fpnas.errors import UserError
from fpnas.report.run_files import Metrics


def write(folder: Path, *lines: str) -> Path:
    path = folder / "metrics.json"
    path.write_text("\n".join(lines))
    return path


def test_columns_have_their_own_iterations(tmp_path: Path) -> None:
    metrics = Metrics.read(
        write(
            tmp_path,
            '{"iteration": 0, "loss": 2.0}',
            '{"iteration": 1, "loss": 1.5, "top1": 40}',
            "",
        )
    )

    assert metrics.series("loss").iterations.tolist() == [0, 1]
    assert metrics.series("loss").values.tolist() == [2.0, 1.5]
    assert metrics.series("top1").iterations.tolist() == [1]
    assert len(metrics.series("lr")) == 0 and "lr" not in metrics
    assert metrics.num_iterations == 2


def test_half_written_last_line_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, '{"iteration": 0, "loss": 2.0}', '{"iteration": 1, "lo')

    assert Metrics.read(path).series("loss").values.tolist() == [2.0]


def test_null_nan_and_text_are_no_points(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '{"iteration": 0, "loss": null, "note": "text"}',
        '{"iteration": 1, "loss": NaN}',
        '{"iteration": 2, "loss": 1.0}',
    )

    assert Metrics.read(path).series("loss").iterations.tolist() == [2]
    assert "note" not in Metrics.read(path)


def test_later_line_of_an_iteration_counts(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '{"iteration": 0, "loss": 3.0}',
        '{"iteration": 1, "loss": 2.0}',
        '{"iteration": 0, "loss": 4.0}',
    )

    assert Metrics.read(path).series("loss").values.tolist() == [4.0, 2.0]


def test_time_of_a_record_stands_for_the_steps_before_it(tmp_path: Path) -> None:
    path = write(tmp_path, '{"iteration": 9, "time": 0.5}', '{"iteration": 29, "time": 0.25}')

    assert Metrics.read(path).seconds == pytest.approx(10 * 0.5 + 20 * 0.25)


def test_damaged_line_and_missing_file_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, '{"loss": 1}', '{"iteration": 1, "loss": 2.0}')
    with pytest.raises(UserError, match=r"metrics\.json', line 1: .*iteration"):
        Metrics.read(path)
    with pytest.raises(UserError, match=r"gone\.json' cannot be read"):
        Metrics.read(tmp_path / "gone.json")


def test_empty_file_has_no_iterations(tmp_path: Path) -> None:
    metrics = Metrics.read(write(tmp_path))

    assert metrics.num_iterations == 0 and metrics.seconds == 0
