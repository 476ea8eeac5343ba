"""The entry of an exported graph: preprocessed images, or photographs as a phone holds them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fpnas.data import Preprocessing
from fpnas.errors import UserError

# Preprocessed images that came from 8-bit pixels are met to within float rounding.
_TOLERANCE = 1e-4


class BakedNormalization(nn.Module):
    """uint8 ``[N, S, S, 3]`` RGB -> normalised float32 ``[N, 3, S, S]``, inside the graph.

    Resizing and cropping stay with the caller; the graph's metadata says how.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
        # One multiplication and one addition: x / 255 / std - mean / std.
        self.register_buffer("scale", (1 / (255 * std)).reshape(1, 3, 1, 1))
        self.register_buffer("shift", (-mean / std).reshape(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.permute(0, 3, 1, 2).float() * self.scale + self.shift

    def pixels(self, images: Tensor) -> Tensor:
        """The inverse: normalised float32 ``[N, 3, S, S]`` -> uint8 ``[N, S, S, 3]``.

        Raises UserError if ``images`` were not 8-bit pixels normalised with this mean and std.
        """
        exact = (images - self.shift) / self.scale
        pixels = exact.round().clamp(0, 255)
        if (self.forward(pixels.permute(0, 2, 3, 1)) - images).abs().max() > _TOLERANCE:
            raise UserError(
                "The images for the export check are not 8-bit RGB pixels normalised with the "
                "given mean and std, so the normalisation cannot be baked into the graph."
            )
        return pixels.byte().permute(0, 2, 3, 1).contiguous()
