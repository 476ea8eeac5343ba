"""Records: what is read is what was written, and everything else is named."""

from __future__ import annotations

import dataclasses

import pytest
import yaml
from zoo_cases import add_in_tree

from fpnas import model_zoo
from fpnas.errors import ConfigError, UserError
from fpnas.model_zoo import Metric, SearchCost, ZooRecord, get_record
from fpnas.model_zoo.manifest import record_names
from fpnas.model_zoo.record import check_name, imagenet_classes, is_plain_path


def test_yaml_keeps_every_field(zoo):
    record = add_in_tree(
        zoo,
        recipe="quick/train.yaml",
        commit="0123abc",
        seed=3,
        data_hash="sha256:77",
        search=SearchCost(samples=100, flops=1.5e15, core_hours=2.25),
        metrics=(
            Metric("top1", 91.25, "10,000 images", command="fpnas eval"),
            Metric("top5", 99.0, "10,000 images", published_by="Somebody 2020"),
        ),
    )
    assert ZooRecord.from_yaml(record.to_yaml(), "x") == record
    assert get_record("tiny_pets") == record


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("flpos", 3, ["unknown key 'flpos'", "'flops'"]),
        ("params", "many", ["'params'", "int", "'many'"]),
        ("params", True, ["'params'", "int"]),
        ("sha256", "123", ["'sha256'", "64"]),
        ("size_bytes", 0, ["'size_bytes'", "0"]),
        ("file", "../../etc/passwd", ["'file'", "../../etc/passwd"]),
        ("file", "/etc/passwd", ["'file'", "/etc/passwd"]),
        ("name", "../x", ["zoo name", "../x"]),
        ("name", "other", ["'other'", "tiny_pets"]),
        ("classes", "cifar", ["'classes'", "imagenet"]),
        ("classes", ["cat", "cat"], ["twice"]),
        ("classes", ["cat", 3], ["'classes'[1]", "3"]),
        ("metrics", [{"name": "top1", "value": 1.0, "data": "d"}], ["'top1'", "command"]),
        ("metrics", [{"name": "top1", "data": "d"}], ["missing", "value"]),
        ("preprocessing", {"input_size": 3}, ["missing", "crop_ratio", "mean"]),
        ("search", {"samples": 1}, ["core_hours"]),
    ],
)
def test_wrong_value_is_named(zoo, key, value, words):
    data = yaml.safe_load(add_in_tree(zoo).to_yaml())
    (zoo / "tiny_pets.yaml").write_text(yaml.safe_dump(data | {key: value}))
    with pytest.raises(ConfigError) as error:
        get_record("tiny_pets")
    for word in [*words, "tiny_pets.yaml"]:
        assert word in str(error.value)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(ZooRecord)])
def test_missing_key_is_named(zoo, field):
    data = yaml.safe_load(add_in_tree(zoo).to_yaml())
    del data[field]
    with pytest.raises(ConfigError, match=f"missing key\\(s\\) {field}"):
        ZooRecord.from_yaml(yaml.safe_dump(data), "x.yaml")


def test_record_is_no_python(zoo):
    with pytest.raises(ConfigError, match="not plain YAML"):
        ZooRecord.from_yaml("!!python/object/apply:os.system [echo]", "x.yaml")
    with pytest.raises(ConfigError, match="mapping"):
        ZooRecord.from_yaml("- 3", "x.yaml")


def test_imagenet_stands_for_its_thousand_names(zoo):
    record = add_in_tree(zoo, classes="imagenet")
    assert record.class_names == imagenet_classes()
    assert len(record.class_names) == 1000
    assert (record.class_names[0], record.class_names[388]) == ("tench", "giant panda")
    assert record.build_arch().num_classes == 1000


@pytest.mark.parametrize("path", ["", "/a", "../a", "a/../b", "a\\b", "c:d", "a//b", "./a"])
def test_path_that_may_leave_its_folder(path):
    assert not is_plain_path(path)


def test_names():
    for name in ("fp_nas_s1", "a-b.c", "x+y"):
        check_name(name)
    for name in ("", ".hidden", "a/b", "../../etc/passwd", "a b"):
        with pytest.raises(ConfigError):
            check_name(name)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", ""])
def test_zoo_name_never_becomes_a_path(zoo, name):
    (zoo.parent / "secret.yaml").write_text("x")
    for function in (model_zoo.get, model_zoo.get_checkpoint_file, model_zoo.info):
        with pytest.raises(UserError, match="No model"):
            function(name)


def test_shipped_records_can_be_read():
    for name in record_names():
        assert get_record(name).name == name
