"""The benchmark of fine-tuning recipes: its splits of a folder of photos, and its recipes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fpnas.config import find_config, get_cfg
from fpnas.errors import UserError

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def fine_tuning(monkeypatch):
    """The script, imported as it is when it runs."""
    monkeypatch.syspath_prepend(FOLDER)
    import fine_tuning

    yield fine_tuning
    sys.modules.pop("fine_tuning", None)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes of 20 empty files."""
    for name in ("apple", "kiwi", "pear"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(20):
            (tmp_path / "photos" / name / f"{index}.jpg").touch()
    return tmp_path / "photos"


def _names(folder: Path) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in folder.glob("*/*.jpg")}


@pytest.mark.parametrize(("number", "training"), [(0, 17), (12, 4)])
def test_splits_are_disjoint_and_follow_the_seed(fine_tuning, photos, tmp_path, number, training):
    folders = [
        fine_tuning.linked(photos, tmp_path / str(i), seed, number)
        for i, seed in enumerate((0, 0, 1))
    ]
    train, val = (_names(folders[0] / split) for split in ("train", "val"))
    assert len(train) == 3 * training and len(val) == 3 * (20 - training)
    assert not train & val and train | val == _names(photos)
    assert _names(folders[1] / "train") == train != _names(folders[2] / "train")
    assert all(path.resolve().parent.parent == photos for path in folders[0].glob("*/*/*.jpg"))


def test_a_class_of_too_few_photos_is_refused(fine_tuning, photos, tmp_path):
    with pytest.raises(UserError, match="class of 20 photos"):
        fine_tuning.linked(photos, tmp_path / "linked", 0, 60)


def test_recipes_change_keys_that_exist_to_values_that_differ(fine_tuning):
    plain = get_cfg()
    plain.merge_from_file(find_config("quick/finetune.yaml"))
    for name, changes in fine_tuning.RECIPES.items():
        cfg = plain.clone()
        for key, value in changes.items():
            cfg.merge_from_list([key, str(value)])
        assert (cfg == plain) == (not changes), name
