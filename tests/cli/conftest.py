"""A zoo with one network that every test of a command can use."""

from __future__ import annotations

import pytest
from colours import CLASSES, PREPROCESSING, colour_net
from safetensors.torch import save_file
from zoo_cases import zoo

from fpnas.model_zoo import Metric, ZooRecord
from fpnas.utils.cache import sha256_of

__all__ = ["zoo"]


@pytest.fixture
def published(tmp_path, zoo):
    """colour_net in a zoo of its own."""
    net = colour_net()
    net.arch.save(tmp_path / "colours.yaml")
    weights = zoo / "colours.safetensors"
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
    (zoo / "colours.yaml").write_text(record.to_yaml(), encoding="utf-8")
