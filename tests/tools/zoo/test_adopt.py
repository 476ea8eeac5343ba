"""A finished search becomes named architectures and an entry of searched.yaml."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from fpnas.archs import Architecture
from fpnas.config import get_cfg
from fpnas.errors import UserError
from fpnas.spaces import get_space
from fpnas_zoo.searches import adopt

NAMED = Path("fpnas/archs/named")
SEARCHED = Path("model_zoo/tables/searched.yaml")
TARGETS = {"target-2M": 2e6, "target-3M": 3e6}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Sources with one named architecture and one search."""
    folder = tmp_path / "checkout"
    (folder / NAMED).mkdir(parents=True)
    (folder / NAMED / "taken.yaml").write_text("as it was")
    (folder / SEARCHED).parent.mkdir(parents=True)
    (folder / SEARCHED).write_text("searches:\n- config: earlier\n")
    return folder


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """OUTPUT_DIR of a search for two targets, counted for 1,000 classes."""
    folder = tmp_path / "out"
    folder.mkdir()
    cfg = get_cfg()
    cfg.merge_from_list(["SEARCH.TARGETS", "[2e6, 3e6]", "SEARCH.COST_NUM_CLASSES", "1000"])
    (folder / "config.yaml").write_text(cfg.dump())
    step = {"iteration": 1, "num_samples": 2, "sampled_cost": 1e6, "time": 36.0, "val_loss": 1.0}
    (folder / "metrics.json").write_text(json.dumps({**step, "target": 2e6}) + "\n")
    space = get_space("FP-NAS-Micro")
    for row, (name, target) in zip(space.sample(2), TARGETS.items(), strict=True):
        (folder / name).mkdir()
        space.architecture(row).save(folder / name / "architecture.yaml")
        losses = [{"mode_loss": 9.0}, {"mode_loss": target / 1e6}, {"top1": 50.0}]
        (folder / name / "metrics.json").write_text("\n".join(map(json.dumps, losses)))
    return folder


def test_every_target_becomes_a_named_architecture(checkout: Path, finished: Path) -> None:
    adopt(finished, "search/x.yaml", "images", ["small", "large=FP-NAS-S1"], "0123abc", checkout)
    for name, folder in zip(("small", "large"), TARGETS, strict=True):
        arch = Architecture.load(checkout / NAMED / f"{name}.yaml")
        found = Architecture.load(finished / folder / "architecture.yaml")
        assert (arch.name, arch.stages) == (name, found.stages)
        assert arch.head.num_classes == 1000
    earlier, search = yaml.safe_load((checkout / SEARCHED).read_text())["searches"]
    assert earlier == {"config": "earlier"}
    assert search["found"] == [
        {"arch": "small", "target": 2e6, "val_loss": 2.0},
        {"arch": "large", "target": 3e6, "val_loss": 3.0, "paper": "FP-NAS-S1"},
    ]
    assert search["cost"]["samples"] == 2 and search["cost"]["core_hours"] == 0.01
    assert (search["config"], search["commit"]) == ("search/x.yaml", "0123abc")


@pytest.mark.parametrize(
    ("names", "message"),
    [(["one"], "1 names for 2 targets"), (["one", "taken"], "taken.yaml' exists")],
)
def test_names_that_do_not_fit_change_nothing(
    checkout: Path, finished: Path, names: list[str], message: str
) -> None:
    before = {path: path.read_bytes() for path in checkout.rglob("*.yaml")}
    with pytest.raises(UserError, match=message):
        adopt(finished, "search/x.yaml", "images", names, "0123abc", checkout)
    assert {path: path.read_bytes() for path in checkout.rglob("*.yaml")} == before


def set_in_config(folder: Path, *keys: str) -> None:
    cfg = get_cfg()
    cfg.merge_from_file(str(folder / "config.yaml"))
    cfg.merge_from_list(list(keys))
    (folder / "config.yaml").write_text(cfg.dump())


def test_a_search_of_unknown_cost_changes_nothing(checkout: Path, finished: Path) -> None:
    set_in_config(finished, "SEARCH.COST", "params")
    before = {path: path.read_bytes() for path in checkout.rglob("*.yaml")}
    with pytest.raises(UserError, match="search for params"):
        adopt(finished, "search/x.yaml", "images", ["one", "two"], "0123abc", checkout)
    assert {path: path.read_bytes() for path in checkout.rglob("*.yaml")} == before


def test_a_single_target_of_a_list_lies_in_the_folder_itself(
    checkout: Path, finished: Path
) -> None:
    set_in_config(finished, "SEARCH.TARGETS", "[2e6]")
    (finished / "target-2M" / "architecture.yaml").rename(finished / "architecture.yaml")
    with (finished / "metrics.json").open("a") as file:
        file.write(json.dumps({"mode_loss": 1.5}) + "\n")
    adopt(finished, "search/x.yaml", "images", ["only"], "0123abc", checkout)
    searches = yaml.safe_load((checkout / SEARCHED).read_text())["searches"]
    assert searches[-1]["found"] == [{"arch": "only", "target": 2e6, "val_loss": 1.5}]
