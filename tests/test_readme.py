"""The README keeps its word: its Python runs, and the files and keys that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fpnas.config import CfgNode, find_config, get_cfg

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("code", PYTHON, ids=lambda code: code.splitlines()[-1][:30])
def test_python_examples_run(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})


def test_own_evaluator_takes_under_20_lines() -> None:
    example = next(code for code in PYTHON if "def evaluate" in code)
    assert len([line for line in example.splitlines() if line.strip()]) < 20


def test_named_configs_exist() -> None:
    names = re.findall(r"--config-file ((?!out/)\S+\.yaml)", README)
    assert len(names) >= 3
    for name in names:
        assert find_config(name).is_file()


def test_named_keys_exist() -> None:
    keys = set(re.findall(r"\b((?:DATA|SEARCH|SOLVER|MODEL)(?:\.[A-Z_]+)+)\b", README))
    assert len(keys) >= 5
    for key in keys:
        node = get_cfg()
        for part in key.split("."):
            assert isinstance(node, CfgNode), key
            assert part in node, key
            node = node[part]


def test_linked_files_exist() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert len(links) >= 3
    for link in links:
        assert (ROOT / link).exists(), link
