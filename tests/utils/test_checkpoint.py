"""Checkpoint files: atomic, safe to load, strict about what they fit."""

from __future__ import annotations

import builtins
import errno
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from fpnas.errors import CheckpointError
from fpnas.utils.checkpoint import (
    Checkpointer,
    DamagedCheckpointError,
    load_weights,
    periodic_name,
    read_checkpoint,
)
from fpnas.utils.file_io import atomic_write


def network(width: int = 4, bias: bool = True) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, width, bias=bias), nn.BatchNorm1d(width))


def same_weights(left: nn.Module, right: nn.Module) -> bool:
    theirs = right.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in left.state_dict().items())


def test_save_and_load_everything(tmp_path):
    torch.manual_seed(0)
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    checkpointer = Checkpointer(model, tmp_path, config="SEED: 1\n", optimizer=optimizer)
    checkpointer.save("model_0000001", iteration=1)
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model_0000001.pth"]

    other = network()
    other_optimizer = torch.optim.Adam(other.parameters())
    loaded = Checkpointer(other, tmp_path, optimizer=other_optimizer).resume_or_load("")
    assert loaded == {"config": "SEED: 1\n", "iteration": 1}
    assert same_weights(other, model)
    ours, theirs = optimizer.state_dict()["state"], other_optimizer.state_dict()["state"]
    assert all(torch.equal(ours[i]["exp_avg"], theirs[i]["exp_avg"]) for i in ours)


def test_atomic_write_leaves_the_old_file_after_an_error(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as file:
        file.write(b"half")
        assert path.read_bytes() == b"old"
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == ["file"]
    assert path.read_bytes() == b"old"
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_full_disk_is_a_clear_error_and_keeps_the_earlier_checkpoint(tmp_path, monkeypatch):
    checkpointer = Checkpointer(network(), tmp_path)
    checkpointer.save("model_0000001")

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CheckpointError, match=r"model_0000002\.pth'.*No space left.*--resume"):
        checkpointer.save("model_0000002")
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model_0000001.pth"]
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_flipped_bit_or_cut_is_never_loaded_as_good(data, tmp_path_factory):
    """Whatever byte is damaged, the weights are either refused or still the right ones."""
    folder = tmp_path_factory.mktemp("damage")
    torch.manual_seed(0)
    model = nn.Linear(40, 40)
    Checkpointer(model, folder).save("good")
    content = bytearray((folder / "good.pth").read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:position]
    else:
        content[position] ^= 1 << data.draw(st.integers(0, 7))
    (folder / "bad.pth").write_bytes(content)
    try:
        weights = read_checkpoint(folder / "bad.pth")["model"]
    except DamagedCheckpointError as error:
        assert "bad.pth" in str(error)
    else:
        expected = model.state_dict()
        assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_code_in_a_file_is_refused(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (builtins.exec, ("raise AssertionError('executed')",))

    torch.save({"model": {"weight": Malicious()}}, tmp_path / "evil.pth")
    with pytest.raises(DamagedCheckpointError, match=r"evil\.pth'.*more than tensors"):
        load_weights(network(), tmp_path / "evil.pth")


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {}, {"model": 3}])
def test_other_torch_files_are_no_checkpoints(content, tmp_path):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(DamagedCheckpointError, match=r"other\.pth' is no checkpoint"):
        read_checkpoint(tmp_path / "other.pth")


def test_weights_of_another_project_are_to_be_imported(tmp_path):
    torch.save({"state_dict": network().state_dict()}, tmp_path / "timm.pth")
    with pytest.raises(DamagedCheckpointError, match="'fpnas zoo import' renames them"):
        read_checkpoint(tmp_path / "timm.pth")


@pytest.mark.parametrize("name", ["empty.pth", "text.pth", "text.safetensors"])
def test_files_of_other_kinds(name, tmp_path):
    (tmp_path / name).write_text("hello" if name.startswith("text") else "")
    with pytest.raises(DamagedCheckpointError, match=re.escape(name)):
        load_weights(network(), tmp_path / name)
    with pytest.raises(CheckpointError, match=r"absent\.pth' does not exist"):
        load_weights(network(), tmp_path / "absent.pth")


@pytest.mark.parametrize("form", ["checkpoint", "state_dict", "distributed", "safetensors"])
def test_load_weights_of_every_form(form, tmp_path):
    source, target = network(), network()
    weights = dict(source.state_dict())
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file(weights, path)
    elif form == "distributed":
        torch.save({f"module.{name}": value for name, value in weights.items()}, path)
    else:
        torch.save({"model": weights, "iteration": 3} if form == "checkpoint" else weights, path)
    load_weights(target, path)
    assert same_weights(target, source)


def test_mismatch_is_listed_and_nothing_is_loaded(tmp_path):
    torch.save(network(8, bias=False).state_dict(), tmp_path / "wide.pth")
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError) as raised:
        load_weights(model, tmp_path / "wide.pth")
    message = str(raised.value)
    assert "wide.pth" in message
    assert "missing: 1 (0.bias)" in message
    assert "of another shape: 5 (0.weight: (8, 3) in the file, (4, 3) in the model" in message
    assert "unexpected" not in message
    assert message.count(" in the model") == 3  # examples only
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    torch.save(network().state_dict(), tmp_path / "biased.pth")
    with pytest.raises(CheckpointError, match=r"unexpected: 1 \(0\.bias\)"):
        load_weights(network(bias=False), tmp_path / "biased.pth")


def test_checkpoint_of_another_kind_of_run(tmp_path):
    model = network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    Checkpointer(model, tmp_path, optimizer=sgd).save("model_0000001")
    with pytest.raises(CheckpointError, match="lacks the state of trainer"):
        Checkpointer(model, tmp_path, trainer=sgd).resume_or_load("")
    fewer = torch.optim.SGD([next(model.parameters())], lr=0.1)
    with pytest.raises(CheckpointError, match="the state of 'optimizer' does not fit"):
        Checkpointer(model, tmp_path, optimizer=fewer).resume_or_load("")


@pytest.mark.parametrize("value", [np.float64(1.0), {"a": [torch.float32]}, {3, 4}])
def test_what_could_not_be_loaded_is_refused_when_saved(value, tmp_path):
    checkpointer = Checkpointer(network(), tmp_path)
    with pytest.raises(TypeError, match=r"name\.extra.* is of type"):
        checkpointer.save("name", extra=value)
    assert os.listdir(tmp_path) == []


def test_resume_or_load_without_resume_ignores_checkpoints(tmp_path):
    old, given_weights, model = network(), network(), network()
    Checkpointer(old, tmp_path).save("model_0000001")
    save_file(dict(given_weights.state_dict()), tmp_path / "given.safetensors")
    checkpointer = Checkpointer(model, tmp_path)
    assert checkpointer.resume_or_load(tmp_path / "given.safetensors", resume=False) == {}
    assert same_weights(model, given_weights)
    checkpointer.resume_or_load(tmp_path / "given.safetensors", resume=True)
    assert same_weights(model, old)


def test_order_of_resumable_files(tmp_path):
    checkpointer = Checkpointer(network(), tmp_path)
    assert checkpointer.resumable_files() == []
    for step in (10, 20, 30):
        checkpointer.write(periodic_name(step), {"model": {}})
    checkpointer.write("model_best", {"model": {}})

    def names() -> list[str]:
        return [file.name for file in checkpointer.resumable_files()]

    # No tag, as after a kill between the first save and its tag.
    assert names() == ["model_0000030.pth", "model_0000020.pth", "model_0000010.pth"]
    checkpointer.tag_last_checkpoint("model_0000020.pth")
    assert names() == ["model_0000020.pth", "model_0000010.pth"]
    checkpointer.tag_last_checkpoint("model_final.pth")  # which does not exist
    assert names() == ["model_0000030.pth", "model_0000020.pth", "model_0000010.pth"]


def test_prune_keeps_the_last_and_those_before_it(tmp_path):
    checkpointer = Checkpointer(network(), tmp_path)
    for step in (10, 20, 30, 40):
        checkpointer.write(periodic_name(step), {"model": {}})
    checkpointer.write("model_best", {"model": {}})
    checkpointer.tag_last_checkpoint("model_0000030.pth")
    checkpointer.prune(2)
    left = sorted(file.name for file in tmp_path.glob("*.pth"))
    assert left == ["model_0000020.pth", "model_0000030.pth", "model_best.pth"]
