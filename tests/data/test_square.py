"""Whole images as squares."""

from __future__ import annotations

import torch

from fpnas.data.square import square_input


def test_the_whole_image_becomes_a_square() -> None:
    image = torch.zeros(3, 20, 60, dtype=torch.uint8)
    image[0, :, 30:] = 255
    found = square_input(image, 32)
    assert found.shape == (3, 32, 32)
    assert found.dtype == torch.float32
    assert found[0, :, :14].max() == 0 and found[0, :, 18:].min() == 1
    assert (found[1:] == 0).all()
