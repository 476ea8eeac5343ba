from __future__ import annotations

import pytest
import torch

from fpnas.data import ImageFiles, TensorImages
from fpnas.errors import DataError

CLASSES = ("a", "b")


def pixels(*shape: int) -> torch.Tensor:
    return torch.arange(torch.Size(shape).numel()).reshape(shape).to(torch.uint8)


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 1, 5, 6)])
def test_greyscale_becomes_three_equal_channels(shape: tuple[int, ...]) -> None:
    images = TensorImages(pixels(*shape), [0, 1, 0, 1], CLASSES)
    assert images.images.shape == (4, 3, 5, 6)
    expected = pixels(4, 5, 6)[2]
    for channel in images.image(2):
        assert torch.equal(channel, expected)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (pixels(4, 3, 2, 2), [0, 1, 0], "4 images but 3 labels"),
        (pixels(2, 3, 2, 2), [0, 2], "0 to 1 for 2 classes, found 0 to 2"),
        (pixels(2, 3, 2, 2), [-1, 0], "found -1 to 0"),
        (pixels(2, 4, 2, 2), [0, 1], r"found torch.uint8 of shape \[2, 4, 2, 2\]"),
        (pixels(2, 3, 2, 2).float(), [0, 1], "found torch.float32"),
        (pixels(2, 3, 2, 2), [[0], [1]], r"must be one list, found shape \(2, 1\)"),
    ],
)
def test_unfit_images_or_labels(images: torch.Tensor, labels: list, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TensorImages(images, labels, CLASSES)


def test_image_files_and_labels_must_match() -> None:
    with pytest.raises(DataError, match="2 image files but 1 labels"):
        ImageFiles(["a.png", "b.png"], [0], CLASSES)


def test_subset_of_subset_shares_pixels_and_keeps_names() -> None:
    images = TensorImages(pixels(5, 3, 2, 2), [0, 1, 0, 1, 1], CLASSES, names=list("vwxyz"))
    subset = images.subset(torch.tensor([4, 2, 1])).subset(torch.tensor([2, 0]))
    assert [subset.name(index) for index in range(len(subset))] == ["w", "z"]
    assert subset.labels.tolist() == [1, 1]
    assert torch.equal(subset.images, images.images[[1, 4]])
    assert torch.equal(subset.gather(torch.tensor([1])), images.images[[4]])
    assert subset.image(0).data_ptr() == images.image(1).data_ptr()


def test_relabel_keeps_the_images() -> None:
    images = TensorImages(pixels(3, 3, 2, 2), [0, 1, 0], CLASSES)
    other = images.relabel(torch.tensor([2, 0, 1]), ("x", "y", "z"))
    assert other.labels.tolist() == [2, 0, 1]
    assert other.classes == ("x", "y", "z")
    assert torch.equal(other.images, images.images)
