"""Whole images as squares."""

from __future__ import annotations

import json

import pytest
import torch
from torchvision.transforms import v2

from fpnas.config import CfgNode, get_cfg
from fpnas.data import Preprocessing, preprocessing
from fpnas.data.preprocessing import set_preprocessing, square_input
from fpnas.errors import DataError


@pytest.fixture
def plain() -> Preprocessing:
    return Preprocessing(12, 0.75, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def random_images(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, shape, dtype=torch.uint8, generator=generator)


def test_images_of_the_input_size_are_only_normalised(plain: Preprocessing) -> None:
    image = random_images(3, 12, 12)
    mean, std = torch.tensor(plain.mean), torch.tensor(plain.std)
    expected = (image / 255 - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(plain(image), expected)
    assert plain(image).dtype == torch.float32


@pytest.mark.parametrize("size", [(24, 40), (12, 13), (7, 5)])
def test_other_images_are_resized_and_cropped(plain: Preprocessing, size: tuple) -> None:
    image = random_images(3, *size)
    assert plain.resize_to == 16
    expected = v2.Compose([v2.Resize(16, antialias=True), v2.CenterCrop(12)])(image)
    assert torch.equal(plain.resize_and_crop(image), expected)


def test_batch_equals_single_images(plain: Preprocessing) -> None:
    images = random_images(4, 3, 20, 17)
    single = torch.stack([plain(image) for image in images])
    assert torch.equal(plain(images), single)


def test_greyscale_view_is_not_changed(plain: Preprocessing) -> None:
    grey = random_images(1, 12, 12)
    before = grey.clone()
    result = plain(grey.expand(3, -1, -1))
    assert torch.equal(grey, before)
    assert torch.equal(result, plain(grey.repeat(3, 1, 1)))


def test_dict_round_trip_through_json() -> None:
    cfg: CfgNode = get_cfg()
    cfg.DATA.INTERPOLATION = "bicubic"
    original = preprocessing(cfg)
    assert Preprocessing.from_dict(json.loads(json.dumps(original.to_dict()))) == original


def test_dict_with_wrong_keys(plain: Preprocessing) -> None:
    values = plain.to_dict()
    del values["mean"]
    with pytest.raises(DataError, match=r"missing key\(s\) mean; found input_size, crop_ratio, in"):
        Preprocessing.from_dict(values)


def test_dict_with_wrong_values(plain: Preprocessing) -> None:
    with pytest.raises(DataError, match=r"preprocessing: 'mean' must have 3 items, found 1"):
        Preprocessing.from_dict(plain.to_dict() | {"mean": [0.5]})
    with pytest.raises(DataError, match=r"'std'\[1\] must be of type float, found 'x'"):
        Preprocessing.from_dict(plain.to_dict() | {"std": [1, "x", 1]})
    with pytest.raises(DataError, match=r"Did you mean 'crop_ratio'"):
        Preprocessing.from_dict(plain.to_dict() | {"crop_ration": 1})


def test_a_config_can_be_given_a_preprocessing(plain: Preprocessing) -> None:
    cfg = get_cfg()
    set_preprocessing(cfg, plain)
    assert preprocessing(cfg) == plain


def test_the_whole_image_becomes_a_square() -> None:
    image = torch.zeros(3, 20, 60, dtype=torch.uint8)
    image[0, :, 30:] = 255
    found = square_input(image, 32)
    assert found.shape == (3, 32, 32)
    assert found.dtype == torch.float32
    assert found[0, :, :14].max() == 0 and found[0, :, 18:].min() == 1
    assert (found[1:] == 0).all()
