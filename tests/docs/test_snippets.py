"""The Python of README and docs/ runs."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from documents import Snippet, snippets
from PIL import Image
from small_network import save_network

from fpnas.archs import ARCH_REGISTRY
from fpnas.blocks import BLOCK_REGISTRY
from fpnas.cli.flags import config_from_model
from fpnas.cli.main import main
from fpnas.data import DATASET_REGISTRY
from fpnas.search import run
from fpnas.spaces import SPACE_REGISTRY
from fpnas.training import start_from_file

SNIPPETS = snippets()
CLASSES = ("dark", "light")
REGISTRIES = (ARCH_REGISTRY, BLOCK_REGISTRY, DATASET_REGISTRY, SPACE_REGISTRY)


@pytest.fixture(autouse=True)
def restored_registries() -> Iterator[None]:
    """Without what a snippet registers."""
    before = [dict(registry._obj_map) for registry in REGISTRIES]
    yield
    for registry, names in zip(REGISTRIES, before, strict=True):
        registry._obj_map.clear()
        registry._obj_map.update(names)


def save_photo(path: Path, class_name: str, number: int = 0) -> None:
    """Noise of that shade."""
    low = 150 * CLASSES.index(class_name)
    pixels = np.random.default_rng(number).integers(low, low + 100, (20 + number, 24, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the search on photos, from Python, was run: whole, but small.

    Its config is first compared with that of the command.
    """
    (snippet,) = [each for each in SNIPPETS if each.setup == "photos"]
    folder = tmp_path_factory.mktemp("searched")
    for number in range(12):
        for class_name in CLASSES:
            save_photo(folder / f"photos/train/{class_name}/{number}.png", class_name, number)
    network, run_search = save_network(folder, ("cat", "dog", "cow")), run.run_search
    short = ["SOLVER.EPOCHS", "2", "SOLVER.BATCH_SIZE", "8", "SEARCH.FULL_EPOCHS", "1"]
    short += ["SEARCH.WARMUP_EPOCHS", "1", "SEARCH.VAL_BATCH_SIZE", "3", "SEARCH.TARGET", "40e3"]
    short += ["LOG.TENSORBOARD", "False", "DATA.NUM_WORKERS", "0", "MODEL.ARCH", ""]

    def small_search(cfg):
        command = ["DATA.ROOT", "photos", "SEARCH.TARGET", "100e6", "OUTPUT_DIR", "out/search"]
        args = argparse.Namespace(model="efficientnet_lite0", config_file="", opts=command)
        assert cfg == config_from_model(args, "search/photos.yaml")
        cfg = cfg.clone()
        cfg.merge_from_list(short)
        start_from_file(cfg, str(network))
        return run_search(cfg)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(run, "run_search", small_search)
        snippet.run()
    return folder


def exported(folder: Path) -> None:
    """A published network as ONNX, and a photo."""
    argv = ["export", "--model", "fp_nas_fmnist_xs", "--formats", "onnx", "--output-dir", "out"]
    assert main([*argv, "DATA.NAME", "fashion_mnist_mini", "EXPORT.PARITY_IMAGES", "20"]) == 0
    save_photo(folder / "photo.jpg", "light")


SETUPS: dict[str, Callable[[Path], None]] = {"": lambda folder: None, "exported": exported}


@pytest.mark.parametrize(
    "snippet", [each for each in SNIPPETS if not each.reason and each.setup in SETUPS], ids=str
)
def test_python_examples_run(snippet: Snippet, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    SETUPS[snippet.setup](tmp_path)
    snippet.run()


def test_search_on_photos_runs(searched: Path) -> None:
    assert (searched / "out" / "search" / "report.html").is_file()


@pytest.mark.parametrize("snippet", [s for s in SNIPPETS if s.setup == "found"], ids=str)
def test_found_network_is_used(snippet: Snippet, searched: Path, tmp_path, monkeypatch) -> None:
    shutil.copytree(searched / "out", tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    snippet.run()


def test_every_example_is_run_or_says_why_not() -> None:
    assert {each.setup for each in SNIPPETS} == {*SETUPS, "photos", "found"}
    assert len(SNIPPETS) >= 25
    for each in SNIPPETS:
        compile(each.code, str(each), "exec")


def test_own_evaluator_takes_under_20_lines() -> None:
    for page, mark in (("extend.md", "def evaluate"), ("README.md", "searcher.tell")):
        example = next(s.code for s in SNIPPETS if s.page.name == page and mark in s.code)
        assert len([line for line in example.splitlines() if line.strip()]) < 20
