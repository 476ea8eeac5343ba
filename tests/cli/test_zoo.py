"""fpnas zoo on the command line."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from zoo_cases import add_in_tree, hide_packages

from fpnas.archs import get_arch
from fpnas.cli import main
from fpnas.cli.zoo import model_report, models_table
from fpnas.modeling import SearchedNet


@pytest.fixture(autouse=True)
def no_downloads(tmp_path, monkeypatch):
    """Neither a cached nor an installed file of weights, and no network."""
    hide_packages(tmp_path / "hidden")
    monkeypatch.syspath_prepend(tmp_path / "hidden")
    monkeypatch.setenv("FPNAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def test_list(capsys):
    assert main(["zoo", "list"]) == 0
    everything = capsys.readouterr().out
    assert main(["zoo", "list", "--pretrained"]) == 0
    published = capsys.readouterr().out
    assert "fbnetv2_f1" in everything
    assert "fbnetv2_f1" not in published
    assert "efficientnet_lite0" in published
    assert main(["zoo", "list", "fbnetv2_f?", "--pretrained"]) == 2
    assert "No published network matches 'fbnetv2_f?'" in capsys.readouterr().err


def test_info(capsys):
    assert main(["zoo", "info", "efficientnet_lite0"]) == 0
    output = capsys.readouterr().out
    for word in ("bicubic", "Apache-2.0", "18.8 MB", "to be downloaded", "stage7.0"):
        assert word in output
    assert main(["zoo", "info", "../../etc/passwd"]) == 2


def test_verify(capsys):
    assert main(["zoo", "verify"]) == 0
    output = capsys.readouterr().out
    assert "efficientnet_lite0" in output
    assert "--download fetches it" in output


def test_verify_fails_with_a_wrong_record(capsys, monkeypatch):
    from fpnas.model_zoo import verify

    wrong = verify.Check("x", "costs", verify.FAILED, "The record states something else.")
    monkeypatch.setattr(verify, "verify", lambda names, download: [wrong])
    assert main(["zoo", "verify"]) == 1
    assert "x: The record states something else." in capsys.readouterr().out


def test_import(tmp_path, capsys):
    timm = pytest.importorskip("timm")
    torch.save(timm.create_model("mnasnet_100").state_dict(), tmp_path / "t.pth")
    output = tmp_path / "ours.safetensors"
    argv = ["zoo", "import", f"timm:{tmp_path / 't.pth'}", "--output", str(output)]
    assert main([*argv, "--arch", "fbnetv2_f1"]) == 2
    message = capsys.readouterr().err
    assert "nothing was imported" in message
    assert "left over" in message
    assert not output.exists()
    assert main([*argv, "--arch", "mnasnet_100"]) == 0
    assert str(output) in capsys.readouterr().out
    assert set(load_file(output)) == set(SearchedNet(get_arch("mnasnet_100")).state_dict())


def test_list_and_report_show_record_and_layers(zoo):
    add_in_tree(zoo)
    table = models_table(["tiny_pets", "fbnetv2_f1"])
    assert "56.23" in table
    assert "90.0" in table.splitlines()[2]
    report = model_report("tiny_pets")
    for word in ("three pets", "90 on ten photos (python benchmarks/none.py)", "stage2.0", "MIT"):
        assert word in report
    assert model_report("fbnetv2_f1").startswith("fbnetv2_f1: 128 px")
