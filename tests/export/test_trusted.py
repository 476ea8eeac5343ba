"""Exported files that may run code: ours are loaded, others are not unless they are trusted."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from export_nets import SIZE, tiny_net

from fpnas.cli import main
from fpnas.errors import UserError
from fpnas.export import EXPORT_FORMATS, export_model, trusted
from fpnas.export.timing import time_file

SUFFIXES = {"pt2": ".pt2", "torchscript": ".torchscript.pt"}


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class Saves(torch.nn.Module):
    """TorchScript that writes a file; its path is a constant of the program."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        torch.save(images, self.path)
        return images


@pytest.fixture(scope="module")
def files(tmp_path_factory, images) -> dict[str, Path]:
    """Ours, with a cache folder of their own."""
    folder = tmp_path_factory.mktemp("ours")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FPNAS_CACHE", str(folder / "cache"))
        reports = export_model(tiny_net(), folder, SUFFIXES, SIZE, images, warmup=0, runs=1)
    assert [report.status for report in reports] == ["ok", "ok"]
    return {report.format: report.file for report in reports}


@pytest.fixture(autouse=True)
def another_process(files, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has exported nothing itself."""
    monkeypatch.setenv("FPNAS_CACHE", str(files["pt2"].parent / "cache"))
    monkeypatch.setattr(trusted, "_written_here", set())


def with_member(source: Path, target: Path, ending: str, contents: bytes) -> Path:
    """A copy of an archive whose member of that ``ending`` has other ``contents``."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        names = old.namelist()
        assert any(name.endswith(ending) for name in names)
        for name in names:
            new.writestr(name, contents if name.endswith(ending) else old.read(name))
    return target


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def malicious(files: dict[str, Path], tmp_path: Path, name: str, marker: Path) -> Path:
    """An exported file that makes ``marker`` when it is loaded or called."""
    if name == "pt2":
        harmful = pickled(((Touch(marker),), {}))
        target = tmp_path / "harmful.pt2"
        return with_member(files["pt2"], target, "data/sample_inputs/model.pt", harmful)
    target = tmp_path / "harmful.torchscript.pt"
    metadata = json.dumps(trusted.read_metadata(files["torchscript"]))
    program = torch.jit.script(Saves(str(marker)))
    torch.jit.save(program, target, _extra_files={trusted.METADATA_FILE: metadata})
    return target


@pytest.mark.parametrize("name", SUFFIXES)
def test_code_in_a_file_is_not_run(files, tmp_path, capsys, name):
    marker = tmp_path / "was here"
    file = malicious(files, tmp_path, name, marker)
    entry = EXPORT_FORMATS[name]
    assert "input" in entry.read_metadata(file)
    with pytest.raises(UserError, match="may run code"):
        entry.load(file, 1)
    with pytest.raises(UserError, match="may run code"):
        time_file(file, runs=1)
    flags = ["--runs", "1", "--warmup", "0", "--profile"]
    assert main(["benchmark", str(file), *flags]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert file.name in said and "--trust" in said and "cache/exported" in said
    assert not marker.exists()
    with contextlib.suppress(Exception):  # its sample inputs are none
        entry.load(file, 1, trust=True)(torch.zeros(1, 3, SIZE, SIZE).numpy())
    assert marker.exists()


@pytest.mark.parametrize("name", SUFFIXES)
def test_our_own_files_are_known_wherever_they_are(files, tmp_path, capsys, name):
    copy = tmp_path / f"renamed{SUFFIXES[name]}"
    shutil.copy(files[name], copy)
    command = ["benchmark", str(files[name]), str(copy), "--runs", "1", "--warmup", "0"]
    assert main(command) == 0
    assert "renamed" in capsys.readouterr().out


@pytest.mark.parametrize("name", SUFFIXES)
def test_a_changed_copy_is_refused_unless_it_is_trusted(files, tmp_path, capsys, name):
    changed = tmp_path / f"changed{SUFFIXES[name]}"
    changed.write_bytes(files[name].read_bytes())
    with zipfile.ZipFile(changed, "a") as archive:
        folder = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{folder}/extra/note.txt", "one more")
    command = ["benchmark", str(changed), "--runs", "1", "--warmup", "0"]
    assert main(command) == 2
    assert main([*command, "--trust"]) == 0
    assert main(command) == 2  # trust is not remembered
    assert "changed" in capsys.readouterr().out


def test_what_is_loaded_is_what_was_hashed(files, tmp_path, monkeypatch):
    """A file that is exchanged between the two is not loaded."""
    file, marker = tmp_path / "model.pt2", tmp_path / "was here"
    shutil.copy(files["pt2"], file)
    harmful = malicious(files, tmp_path, "pt2", marker).read_bytes()
    read_known = trusted.read_known

    def read_and_exchange(path: Path, trust: bool = False) -> bytes:
        data = read_known(path, trust)
        path.write_bytes(harmful)
        return data

    monkeypatch.setattr("fpnas.export.pt2.read_known", read_and_exchange)
    EXPORT_FORMATS["pt2"].load(file, 1)
    assert file.read_bytes() == harmful and not marker.exists()


def test_a_cache_that_cannot_be_written_to_does_not_stop_an_export(
    tmp_path, images, monkeypatch, caplog
):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FPNAS_CACHE", str(tmp_path / "file"))
    [report] = export_model(tiny_net(), tmp_path, "pt2", SIZE, images, warmup=0, runs=1)
    assert report.status == "ok"
    assert "will ask for --trust" in caplog.text
    time_file(report.file, runs=1)  # in the same process
    monkeypatch.setattr(trusted, "_written_here", set())
    with pytest.raises(UserError, match="trust"):
        time_file(report.file, runs=1)


def test_archives_without_our_metadata(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt2", "w") as archive:
        archive.writestr("archive/models/model.json", "{}")
    with pytest.raises(UserError, match="not written by 'fpnas export'"):
        time_file(tmp_path / "x.pt2")
    with zipfile.ZipFile(tmp_path / "y.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/extra/metadata.json", b"0" * (1 << 25))
    with pytest.raises(UserError, match="metadata of 33,554,432 bytes"):
        time_file(tmp_path / "y.pt2")
    (tmp_path / "z.pt2").write_bytes(b"no archive")
    with pytest.raises(UserError, match="cannot be read as pt2"):
        time_file(tmp_path / "z.pt2")
