"""Photos side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fpnas.errors import UserError
from fpnas_tasks.photo_grid import photo_grid, picture_file


def test_photos_stand_in_rows_at_the_height_of_the_tallest() -> None:
    wide, high = (torch.full((3, h, 40), 9, dtype=torch.uint8) for h in (20, 30))
    grid = photo_grid([wide, high, wide], columns=2, width=80)
    assert grid.shape == (3, 4 + 2 * 64, 4 + 2 * 84)
    assert grid.dtype == torch.uint8
    assert (grid[:, 10, 10] == 9).all() and (grid[:, 0, 0] == 255).all()


@pytest.mark.parametrize("name", ["x", "x.onnx", "x.psd"])
def test_only_pictures_are_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"{name}' does not end as a picture"):
        picture_file(tmp_path / "new" / name)
    assert not (tmp_path / "new").exists()
    assert picture_file(tmp_path / "new" / "x.PNG").parent.is_dir()
