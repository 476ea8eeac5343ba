"""A zoo with one network that every test of a command can use."""

from __future__ import annotations

import pytest
from colours import CLASSES, PREPROCESSING, colour_net
from safetensors.torch import save_file

from fpnas.model_zoo import Metric, ZooRecord, manifest
from fpnas.utils.cache import sha256_of


@pytest.fixture
def published(tmp_path, monkeypatch):
    """colour_net in a zoo of its own."""
    folder = tmp_path / "package" / "entries"
    folder.mkdir(parents=True)
    monkeypatch.setattr(manifest, "_PACKAGE", folder.parent)
    net = colour_net()
    net.arch.save(tmp_path / "colours.yaml")
    weights = folder / "colours.safetensors"
    save_file(net.state_dict(), weights)
    record = ZooRecord(
        name="colours",
        architecture=str(tmp_path / "colours.yaml"),
        dataset="colours",
        metrics=(Metric("top1", 100.0, "three images", command="fpnas eval"),),
        flops=net.arch.flops(),
        params=net.arch.params,
        preprocessing=PREPROCESSING,
        file=weights.name,
        size_bytes=weights.stat().st_size,
        sha256=sha256_of(weights),
        layout="fpnas",
        recipe=None,
        commit=None,
        seed=None,
        data_hash=None,
        search=None,
        licence="MIT",
        classes=CLASSES,
        source="made by hand",
    )
    (folder / "colours.yaml").write_text(record.to_yaml(), encoding="utf-8")
