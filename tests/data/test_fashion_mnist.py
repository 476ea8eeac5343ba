from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
import torch

from fpnas.config import CfgNode
from fpnas.data import build_dataset
from fpnas.data.fashion_mnist import read_idx
from fpnas.errors import DataError


def idx_bytes(array: torch.Tensor) -> bytes:
    header = bytes([0, 0, 8, array.dim()]) + struct.pack(f">{array.dim()}I", *array.shape)
    return header + array.numpy().tobytes()


@pytest.fixture
def full_set(cfg: CfgNode, tmp_path: Path) -> CfgNode:
    """The four files, one of them not compressed: 20 training and 10 test images."""
    cfg.DATA.NAME = "fashion_mnist"
    cfg.DATA.ROOT = str(tmp_path)
    for prefix, count in (("train", 20), ("t10k", 10)):
        images = torch.arange(count * 784).reshape(count, 28, 28).to(torch.uint8)
        labels = (torch.arange(count) % 10).to(torch.uint8)
        (tmp_path / f"{prefix}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        compressed = gzip.compress(idx_bytes(labels))
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(compressed)
    return cfg


@pytest.mark.parametrize(("split", "per_class"), [("train", 600), ("test", 100)])
def test_embedded_subset(cfg: CfgNode, split: str, per_class: int) -> None:
    cfg.DATA.NAME = "fashion_mnist_mini"
    images = build_dataset(cfg, split)
    assert len(images.classes) == 10
    assert images.labels.bincount().tolist() == [per_class] * 10
    assert images.images.shape == (10 * per_class, 3, 28, 28)
    # Real pictures: an ankle boot is dark in the corners and bright in the sole.
    boots = images.images[images.labels == images.classes.index("Ankle boot")].float().mean(0)[0]
    assert boots[0, 0] < 5
    assert boots[20].mean() > 100


def test_embedded_splits_share_no_image(cfg: CfgNode) -> None:
    cfg.DATA.NAME = "fashion_mnist_mini"
    train, test = (
        {image[0].numpy().tobytes() for image in build_dataset(cfg, split).images}
        for split in ("train", "test")
    )
    assert not train & test


def test_embedded_subset_comes_with_its_licence() -> None:
    import fpnas.data

    notice = Path(fpnas.data.__file__).with_name("fashion_mnist_mini") / "LICENSE"
    text = notice.read_text(encoding="utf-8")
    assert "Zalando SE" in text and "The MIT License" in text
    assert "make_fashion_mnist_mini.py" in text


def test_full_set_compressed_or_not(full_set: CfgNode) -> None:
    train, test = build_dataset(full_set, "train"), build_dataset(full_set, "test")
    assert (len(train), len(test)) == (20, 10)
    assert train.labels.tolist() == [*range(10)] * 2
    assert int(test.image(0)[2, 0, 5]) == 5


def test_a_missing_file_is_named(full_set: CfgNode, tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").unlink()
    with pytest.raises(DataError, match=r"neither train-images-idx3-ubyte\.gz nor train-images"):
        build_dataset(full_set, "train")


def test_images_and_labels_must_match(full_set: CfgNode, tmp_path: Path) -> None:
    short = idx_bytes(torch.zeros(19, dtype=torch.uint8))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(short)
    with pytest.raises(DataError, match=r"shape \[20, 28, 28\] and .* shape \[19\]"):
        build_dataset(full_set, "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no idx file of bytes: it starts with nothing"),
        (b"hello", "no idx file of bytes"),
        (
            gzip.compress(idx_bytes(torch.zeros(50, dtype=torch.uint8)), mtime=0)[:-12],
            "cannot be read",
        ),
        (idx_bytes(torch.zeros(4, dtype=torch.uint8))[:-1], "announces 4 bytes but holds 3"),
        (idx_bytes(torch.zeros(2, 2, dtype=torch.uint8))[:7], "ends inside its header"),
    ],
)
def test_damaged_idx_files(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "damaged"
    file.write_bytes(content)
    with pytest.raises(DataError, match=f"damaged.*{message}"):
        read_idx(file)
