"""Shipped configs are found by name, and every one of them fits the config tree."""

from __future__ import annotations

import pytest

from fpnas.config import find_config, get_cfg, list_configs
from fpnas.errors import ConfigError


def test_existing_path_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "quick" / "search.yaml"
    own.parent.mkdir()
    own.write_text("SEED: 1")
    assert find_config("quick/search.yaml").resolve() == own
    assert find_config(own) == own


@pytest.mark.parametrize("prefix", ["", "configs/", "./configs/"])
def test_shipped_config_is_found_from_anywhere(tmp_path, monkeypatch, prefix):
    monkeypatch.chdir(tmp_path)
    found = find_config(f"{prefix}quick/search.yaml")
    assert found.is_file()
    assert found.parts[-3:] == ("configs", "quick", "search.yaml")


def test_misspelt_name_suggests_the_nearest():
    with pytest.raises(ConfigError, match=r"quick/serch\.yaml.*Did you mean 'quick/search\.yaml'"):
        find_config("configs/quick/serch.yaml")


def test_unlike_any_name_points_to_the_list():
    with pytest.raises(ConfigError, match="fpnas configs"):
        find_config("xyzzy")


def test_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is a folder"):
        find_config(tmp_path)


@pytest.mark.parametrize("name", list_configs())
def test_every_shipped_config_fits(name):
    get_cfg().merge_from_file(find_config(name))
