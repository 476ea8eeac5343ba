"""Imports point down the order of CONTRIBUTING.md, run in no circle, and start light.

Every import counts: those inside functions and those for type checkers, too.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
ORDER = re.search(
    r"Imports point one way: `([^`]+)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
)[1].split()[::2]

# Above all packages.
TOP = {"fpnas", "fpnas.__main__"}
# Whoever reads these imports nothing: they are there before any module of fpnas runs.
ATTRIBUTES = {"fpnas.__file__", "fpnas.__version__"}

# Optional, or of no use before the first network is built or drawn.
HEAVY = {"executorch", "matplotlib", "numpy", "onnx", "onnxruntime", "onnxscript", "pandas", "PIL"}
HEAVY |= {"pycocotools", "scipy", "sklearn", "tensorboard", "timm", "torch", "torchvision", "tqdm"}
CONFIG = {"fvcore", "iopath", "yacs", "yaml"}  # what reading a config needs


class Import(NamedTuple):
    """A module names another one of fpnas; ``by_name`` in a string."""

    module: str
    imported: str
    by_name: bool = False


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of fpnas with its file."""
    files = {}
    for path in sorted((ROOT / "fpnas").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


def imports_in(tree: ast.Module, module: str) -> Iterator[Import]:
    """What ``module`` imports of fpnas; a package stands for names of its ``__init__``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name != "fpnas"]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "fpnas":
            names = [ast.unparse(node)]
        elif isinstance(node, ast.Constant) and node.value in modules():
            names = [node.value] if node.value != "fpnas" else []
        else:
            continue
        for name in names:
            if name.split(".")[0] == "fpnas" and name not in ATTRIBUTES:
                file = name if name in modules() else name.rpartition(".")[0]
                yield Import(module, file, isinstance(node, ast.Constant))


@functools.cache
def imports() -> list[Import]:
    return [
        found
        for module, path in modules().items()
        for found in imports_in(ast.parse(path.read_text(encoding="utf-8")), module)
    ]


def package(module: str) -> str:
    return module.split(".")[1]


def test_the_order_names_every_package_once() -> None:
    assert sorted(ORDER) == sorted({package(module) for module in modules().keys() - TOP})


def test_packages_import_only_downwards() -> None:
    rank = {name: position for position, name in enumerate(ORDER)}
    upwards = {
        (found.module, found.imported)
        for found in imports()
        if found.module not in TOP
        and (found.imported in TOP or rank[package(found.imported)] > rank[package(found.module)])
    }
    assert upwards == set()


def test_files_import_each_other_in_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for found in imports():
        if found.module not in TOP and not found.by_name:
            graph.setdefault(found.module, set()).add(found.imported)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail("imports in a circle: " + " <- ".join(error.args[1]))


@pytest.mark.parametrize(
    ("code", "imported"),
    [
        ("import fpnas.errors", ["fpnas.errors"]),
        ("from fpnas import __version__, utils", ["fpnas.utils"]),
        ("from fpnas.config import CfgNode, defaults", ["fpnas.config", "fpnas.config.defaults"]),
        ("def f():\n    from fpnas.errors import UserError", ["fpnas.errors"]),
        ("if TYPE_CHECKING:\n    from fpnas.errors import UserError", ["fpnas.errors"]),
        ("import_module('fpnas.errors')", ["fpnas.errors"]),
        ("import torch, fpnas; print(fpnas.__version__, fpnas.__file__)", []),
        ("import fpnas; fpnas.get_cfg()", ["fpnas"]),
        ("from fpnas import get_cfg", ["fpnas"]),
        ("'A text on fpnas.errors.'", []),
    ],
)
def test_every_kind_of_import_is_found(code: str, imported: list[str]) -> None:
    found = list(imports_in(ast.parse(code), "fpnas.cli.main"))
    assert [each.imported for each in found] == imported
    assert all(each.by_name == ("import_module" in code) for each in found)


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import fpnas, fpnas.errors", HEAVY | CONFIG),
        ("import fpnas.cli.main; fpnas.get_cfg()", HEAVY),
    ],
)
def test_start_is_light(code: str, absent: set[str]) -> None:
    code += "; import sys; print(*{name.split('.')[0] for name in sys.modules})"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(result.stdout.split())
    assert "fpnas" in loaded
    assert loaded & absent == set()
