"""Files that are written at the end of long work."""

from __future__ import annotations

from pathlib import Path

import pytest

from fpnas.errors import UserError
from fpnas.utils.file_io import output_file


def test_the_folder_is_made(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "x.onnx"
    assert output_file(str(file)) == file
    assert file.parent.is_dir() and not list(file.parent.iterdir())


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"'{tmp_path}' is a folder"):
        output_file(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="Cannot write '.*file/x.onnx'"):
        output_file(tmp_path / "file" / "x.onnx")
