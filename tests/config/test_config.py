"""The config tree: what it accepts, what it refuses, and with which words."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fpnas.config import CfgNode, find_config, get_cfg, list_configs
from fpnas.errors import ConfigError


def write(folder: Path, text: str, name: str = "config.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def leaves(node: CfgNode, prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in node.items():
        if isinstance(value, CfgNode):
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


DEFAULTS = leaves(get_cfg())


def test_every_call_gives_a_fresh_copy():
    get_cfg().SOLVER.EPOCHS = 999
    assert leaves(get_cfg()) == DEFAULTS


def test_file_then_command_line(tmp_path):
    cfg = get_cfg()
    cfg.merge_from_file(write(tmp_path, "SOLVER: {EPOCHS: 7, LR: 0.5}"))
    cfg.merge_from_list(["SOLVER.LR", "0.25", "DATA.AUGMENT.POLICY", "randaugment"])
    assert (cfg.SOLVER.EPOCHS, cfg.SOLVER.LR) == (7, 0.25)
    assert cfg.DATA.AUGMENT.POLICY == "randaugment"


def test_base_is_inherited_relative_to_its_file(tmp_path):
    (tmp_path / "sub").mkdir()
    write(tmp_path, "SEED: 3\nSOLVER: {EPOCHS: 7, LR: 0.5}", "base.yaml")
    cfg = get_cfg()
    cfg.merge_from_file(write(tmp_path / "sub", "_BASE_: ../base.yaml\nSOLVER: {LR: 0.25}"))
    assert (cfg.SEED, cfg.SOLVER.EPOCHS, cfg.SOLVER.LR) == (3, 7, 0.25)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SOLVER: {EPOCH: 7}", ["unknown key 'SOLVER.EPOCH'", "Did you mean 'SOLVER.EPOCHS'?"]),
        ("SLOVER: {EPOCHS: 7}", ["unknown key 'SLOVER'", "Did you mean 'SOLVER'?"]),
        ("SEED: 5\nLOG: {XYZZY: 1}", ["unknown key 'LOG.XYZZY'", "LOG.PERIOD", "LOG.TENSORBOARD"]),
        ("SOLVER: {EPOCHS: many}", ["'SOLVER.EPOCHS' must be of type int", "'many'"]),
        ("SOLVER: {EPOCHS: 1.5}", ["'SOLVER.EPOCHS' must be of type int", "1.5"]),
        ("SOLVER: {EPOCHS: true}", ["'SOLVER.EPOCHS' must be of type int", "True"]),
        ("SOLVER: {NESTEROV: 1}", ["'SOLVER.NESTEROV' must be of type bool", "1"]),
        ("SOLVER: {LR: .nan}", ["'SOLVER.LR' must be of type float", "nan"]),
        ("MODEL: {ARCH: 5}", ["'MODEL.ARCH' must be of type str", "5"]),
        ("DATA: {MEAN: 0.5}", ["'DATA.MEAN' must be of type tuple", "0.5"]),
        ("DATA: {MEAN: [0.5, x, 0.5]}", ["'DATA.MEAN[1]' must be of type float", "'x'"]),
        ("SOLVER: 5", ["'SOLVER' holds further keys", "5"]),
        ("VERSION: 999", ["VERSION 999", "VERSION 1"]),
        ("SEED: !!python/object/apply:os.getcwd []", ["not plain YAML"]),
        ("SEED: [", ["not plain YAML"]),
        ("", ["empty"]),
        ("just text", ["no mapping"]),
        ("_BASE_: missing.yaml", ["config.yaml", "missing.yaml", "No such file"]),
        ("_BASE_: config.yaml", ["config.yaml", "circle"]),
    ],
)
def test_unusable_file_is_refused_and_changes_nothing(tmp_path, text, words):
    cfg = get_cfg()
    with pytest.raises(ConfigError) as error:
        cfg.merge_from_file(write(tmp_path, text))
    for word in ["config.yaml", *words]:
        assert word in str(error.value)
    assert cfg == get_cfg()


def test_section_over_a_value_of_the_base_is_refused(tmp_path):
    write(tmp_path, "SOLVER: 1", "base.yaml")
    with pytest.raises(ConfigError, match="SOLVER"):
        get_cfg().merge_from_file(write(tmp_path, "_BASE_: base.yaml\nSOLVER: {LR: 1}"))


def test_binary_file_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\x89PNG\r\n\xff\xfe")
    with pytest.raises(ConfigError, match="not plain YAML"):
        get_cfg().merge_from_file(path)


def test_unsafe_loading_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="safe YAML only"):
        get_cfg().merge_from_file(write(tmp_path, "SEED: 1"), allow_unsafe=True)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["SOLVER.EPOCH", "7"], ["'SOLVER.EPOCH'", "'SOLVER.EPOCHS'"]),
        (["SOLVER.EPOCHS", "x"], ["'SOLVER.EPOCHS'", "int"]),
        (["SOLVER.EPOCHS"], ["KEY VALUE pairs", "'SOLVER.EPOCHS' stands alone"]),
        (["SEED.DEEPER", "1"], ["'SEED' must be of type int"]),
        (["SOLVER", "1"], ["'SOLVER' holds further keys"]),
    ],
)
def test_unusable_override_is_refused_and_changes_nothing(overrides, words):
    cfg = get_cfg()
    with pytest.raises(ConfigError) as error:
        cfg.merge_from_list(["SEED", "5", *overrides])
    for word in words:
        assert word in str(error.value)
    assert cfg == get_cfg()


def test_frozen_config_refuses_to_merge():
    cfg = get_cfg()
    cfg.freeze()
    with pytest.raises(ConfigError, match="frozen"):
        cfg.merge_from_list(["SEED", "5"])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda cfg: pickle.loads(pickle.dumps(cfg))])
@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("SOLVER", "EPOCH", 1, ["unknown key 'EPOCH'", "Did you mean 'EPOCHS'?"]),
        ("MODEL", "OUT_FEATURE", ("auto",), ["Did you mean 'OUT_FEATURES'?"]),
        ("MODEL", "NUM_CLASSES", "five", ["'NUM_CLASSES' must be of type int", "'five'"]),
        ("DATA", "AUGMENT", 1, ["'AUGMENT' holds further keys"]),
    ],
)
def test_attributes_are_refused_as_overrides_are(copied, section, key, value, words):
    cfg = copied(get_cfg())
    with pytest.raises(ConfigError) as error:
        setattr(cfg[section], key, value)
    assert all(word in str(error.value) for word in words)
    assert cfg == get_cfg()


def test_attributes_take_the_type_of_the_default():
    cfg = get_cfg()
    cfg.MODEL.NUM_CLASSES, cfg.SOLVER.LR, cfg.DATA.MEAN = "5", 1, [0, 0, 0.5]
    assert cfg.MODEL.NUM_CLASSES == 5
    assert (type(cfg.SOLVER.LR), type(cfg.DATA.MEAN)) == (float, tuple)
    cfg.freeze()
    with pytest.raises(AttributeError, match="immutable"):
        cfg.SEED = 1


def test_a_project_adds_a_section_of_its_own():
    cfg = get_cfg()
    cfg.MINE = CfgNode()
    cfg.MINE.DEPTH = 3
    cfg.set_new_allowed(False)
    cfg = cfg.clone()
    cfg.merge_from_list(["MINE.DEPTH", "4"])
    with pytest.raises(ConfigError, match="'DEPTH'"):
        cfg.MINE.DEPHT = 5
    assert cfg.MINE == {"DEPTH": 4}


@pytest.mark.parametrize("text", ["1e6", "1.0e+6", "1000000"])
def test_scientific_notation_is_a_number(tmp_path, text):
    cfg = get_cfg()
    cfg.merge_from_file(write(tmp_path, f"SEARCH: {{TARGET: {text}}}\nSEED: {text}"))
    assert (cfg.SEARCH.TARGET, cfg.SEED) == (1e6, 1_000_000)
    assert (type(cfg.SEARCH.TARGET), type(cfg.SEED)) == (float, int)


def test_list_becomes_the_tuple_of_the_default(tmp_path):
    cfg = get_cfg()
    cfg.merge_from_file(write(tmp_path, "DATA: {MEAN: [0, 0.5, 1]}"))
    assert cfg.DATA.MEAN == (0.0, 0.5, 1.0)
    assert [type(value) for value in cfg.DATA.MEAN] == [float] * 3
    cfg.merge_from_list(["EXPORT.FORMATS", "['onnx']"])
    assert cfg.EXPORT.FORMATS == ("onnx",)


def test_text_keys_take_what_looks_like_a_number():
    cfg = get_cfg()
    cfg.merge_from_list(["DATA.ROOT", "2024", "MODEL.WEIGHTS", "None"])
    assert (cfg.DATA.ROOT, cfg.MODEL.WEIGHTS) == ("2024", "None")


def value_like(default: object) -> st.SearchStrategy:
    """Any value of the type of ``default``."""
    if isinstance(default, bool):
        return st.booleans()
    if isinstance(default, int):
        return st.integers(-(10**20), 10**20)
    if isinstance(default, float):
        return st.floats(allow_nan=False, allow_infinity=False)
    if isinstance(default, str):
        return st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]))
    assert isinstance(default, tuple)
    item = value_like(default[0] if default else 1.0)
    return st.lists(item, max_size=4).map(tuple)


CHANGES = st.fixed_dictionaries(
    {}, optional={key: value_like(default) for key, default in DEFAULTS.items() if key != "VERSION"}
)


@given(changes=CHANGES)
def test_dump_and_merge_restore_every_value(changes, tmp_path_factory):
    cfg = get_cfg()
    for key, value in changes.items():
        *parents, leaf = key.split(".")
        node = cfg
        for parent in parents:
            node = node[parent]
        node[leaf] = value
    path = tmp_path_factory.mktemp("round_trip") / "config.yaml"
    path.write_text(cfg.dump(), encoding="utf-8")
    restored = get_cfg()
    restored.merge_from_file(path)
    assert restored == cfg
    assert {k: type(v) for k, v in leaves(restored).items()} == {
        k: type(v) for k, v in leaves(cfg).items()
    }


def test_dump_is_plain_yaml():
    assert yaml.safe_load(get_cfg().dump())["SOLVER"]["EPOCHS"] == DEFAULTS["SOLVER.EPOCHS"]


def test_keys_of_earlier_versions_are_passed_over(tmp_path, caplog):
    cfg = get_cfg()
    cfg.merge_from_file(write(tmp_path, "EXPORT: {INT8_WEIGHT_BITS: 7, BATCH_SIZE: 3}"))
    assert cfg.EXPORT.BATCH_SIZE == 3 and "INT8_WEIGHT_BITS" not in cfg.EXPORT
    assert "EXPORT.INT8_WEIGHT_BITS" in caplog.text
    with pytest.raises(ConfigError, match="unknown key 'EXPORT.INT8_WEIGHT_BITZ'"):
        cfg.merge_from_file(write(tmp_path, "EXPORT: {INT8_WEIGHT_BITZ: 7}"))


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
