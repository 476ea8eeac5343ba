"""What the tests of the detection project share."""

from __future__ import annotations

from pathlib import Path

import pytest
from detection_cases import small_arch, write_voc


@pytest.fixture(scope="module")
def voc(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("voc")
    write_voc(root)
    return root


@pytest.fixture(scope="module")
def arch_file(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("arch") / "small.yaml"
    small_arch().save(file)
    return file
