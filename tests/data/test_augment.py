from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as nn_functional

from fpnas.data.augment import (
    CROP_RATIO,
    Augmentation,
    BatchTransform,
    erase,
    flip,
    image_transform,
    random_crops,
    random_erasures,
    resized_crop,
    shift,
)
from fpnas.data.preprocessing import Preprocessing

PLAIN = Preprocessing(8, 1.0, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def random_images(count: int, height: int = 8, width: int = 8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    # From 1 on, so that 0 can only be padding.
    return torch.randint(1, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


@given(st.integers(1, 4), st.data())
def test_shift_moves_pixels_and_pads_with_zeros(pad: int, data: st.DataObject) -> None:
    images = random_images(2, 6, 7)
    offset = st.integers(0, 2 * pad)
    offsets = torch.tensor([[data.draw(offset), data.draw(offset)] for _ in images])
    for image, (row, column), shifted in zip(
        images, offsets.tolist(), shift(images, pad, offsets), strict=True
    ):
        padded = nn_functional.pad(image, [pad] * 4)
        assert torch.equal(shifted, padded[:, row : row + 6, column : column + 7])
        # What moved in is zero, everything else is a pixel of the image.
        lost_rows, lost_columns = abs(row - pad), abs(column - pad)
        kept = max(0, 6 - lost_rows) * max(0, 7 - lost_columns)
        assert int((shifted != 0).sum()) == 3 * kept


def test_shift_by_nothing() -> None:
    images = random_images(3)
    assert torch.equal(shift(images, 2, torch.full((3, 2), 2)), images)


@given(st.lists(st.booleans(), min_size=1, max_size=6))
def test_flip_mirrors_the_chosen_and_undoes_itself(chosen: list[bool]) -> None:
    images = random_images(len(chosen), 3, 5)
    flipped = flip(images, torch.tensor(chosen))
    for image, result, is_chosen in zip(images, flipped, chosen, strict=True):
        assert torch.equal(result, image.flip(-1) if is_chosen else image)
    assert torch.equal(flip(flipped, torch.tensor(chosen)), images)


def test_erase_zeroes_exactly_the_boxes() -> None:
    images = torch.ones(2, 3, 8, 9)
    boxes = torch.tensor([[1, 2, 3, 4], [0, 0, 0, 0]])
    expected = images.clone()
    expected[0, :, 1:4, 2:6] = 0
    assert torch.equal(erase(images, boxes), expected)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000))
def test_random_crops_lie_inside(height: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes = random_crops(50, (height, width), (0.08, 1.0), CROP_RATIO, generator)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] >= 1).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= torch.tensor([height, width])).all()


def test_random_crops_have_the_stated_area_and_shape() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = random_crops(4000, (1000, 1000), (0.25, 0.5), CROP_RATIO, generator).double()
    area = boxes[:, 2] * boxes[:, 3] / 1e6
    shape = (boxes[:, 3] / boxes[:, 2]).log()
    assert 0.249 < area.min() < 0.26 and 0.49 < area.max() < 0.501
    assert abs(area.mean() - 0.375) < 0.005
    assert abs(shape.mean()) < 0.01
    assert shape.abs().max() < torch.tensor(4 / 3).log() + 0.01


def test_crop_that_cannot_fit_falls_back_to_the_centre() -> None:
    boxes = random_crops(3, (10, 100), (1.0, 1.0), CROP_RATIO, torch.Generator().manual_seed(0))
    assert boxes.tolist() == [[0, 43, 10, 13]] * 3


def test_whole_image_as_resized_crop_is_the_resized_image() -> None:
    images = random_images(2, 20, 20)
    boxes = torch.tensor([[0, 0, 20, 20]] * 2)
    assert torch.equal(resized_crop(images, boxes, PLAIN), PLAIN.resize(images))


@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 100))
def test_erased_boxes_lie_inside(height: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes = random_erasures(50, (height, width), 1.0, generator)
    assert (boxes >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= torch.tensor([height, width])).all()


def test_erasing_happens_with_its_probability() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = random_erasures(4000, (32, 32), 0.3, generator)
    share = (boxes[:, 2] * boxes[:, 3] > 0).double().mean()
    assert abs(share - 0.3) < 0.03


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(crop="pad", pad=2, hflip=0.5),
        Augmentation(crop="resized", scale=(0.3, 1.0), hflip=0.5),
        Augmentation(crop="none", erase=0.5),
    ],
    ids=lambda augmentation: augmentation.crop,
)
def test_rows_of_a_batch_do_not_depend_on_who_asks(augmentation: Augmentation) -> None:
    images = random_images(6, 10, 10)
    transform = BatchTransform(augmentation, PLAIN)

    def run(rows: slice) -> Tensor:
        return transform(images[rows], rows, 6, torch.Generator().manual_seed(5))

    whole = run(slice(0, 6))
    assert torch.equal(torch.cat([run(slice(0, 2)), run(slice(2, 6))]), whole)
    assert not torch.equal(whole, PLAIN(images))


def test_no_augmentation_is_the_preprocessing() -> None:
    images = random_images(3, 10, 12)
    generator = torch.Generator().manual_seed(0)
    result = BatchTransform(Augmentation(), PLAIN)(images, slice(0, 3), 3, generator)
    assert torch.equal(result, PLAIN(images))
    assert torch.equal(image_transform(Augmentation(), PLAIN)(images[0]), PLAIN(images[0]))


def test_batch_and_single_image_agree_in_distribution() -> None:
    """Mean of many augmented images: the same for both implementations, up to sampling error."""
    augmentation = Augmentation(crop="pad", pad=2, hflip=0.5, erase=0.5)
    image = random_images(1)
    count = 3000
    batch = BatchTransform(augmentation, PLAIN)(
        image.expand(count, -1, -1, -1), slice(0, count), count, torch.Generator().manual_seed(0)
    )
    single = image_transform(augmentation, PLAIN)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        singles = torch.stack([single(image[0]) for _ in range(count)])
    assert (batch.mean(0) - singles.mean(0)).abs().max() < 0.05
    assert (batch.std(0) - singles.std(0)).abs().max() < 0.05


@pytest.mark.parametrize(
    "policy", ["autoaugment-imagenet", "autoaugment-cifar10", "randaugment", "trivialaugment"]
)
def test_policies_change_the_image(policy: str) -> None:
    transform = image_transform(Augmentation(policy=policy), PLAIN)
    image = random_images(1)[0]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        results = torch.stack([transform(image) for _ in range(20)])
    assert results.shape == (20, 3, 8, 8)
    assert len({tuple(result.flatten().tolist()) for result in results}) > 5


def test_policies_are_refused_for_batches() -> None:
    with pytest.raises(ValueError, match="image by image"):
        BatchTransform(Augmentation(policy="randaugment"), PLAIN)


def test_colour_changes_images_one_by_one_and_leaves_their_shape() -> None:
    image = random_images(1)[0]
    torch.manual_seed(0)
    changed = image_transform(Augmentation(color=0.5), PLAIN)(image)
    plain = image_transform(Augmentation(), PLAIN)(image)
    assert changed.shape == plain.shape
    assert not torch.allclose(changed, plain, atol=0.01)
    with pytest.raises(ValueError, match="colour"):
        BatchTransform(Augmentation(color=0.5), PLAIN)
