from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fpnas.data.decode import decode_image, try_decode
from fpnas.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp"])
def test_lossless_formats(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"image.{suffix}"
    Image.fromarray(PIXELS).save(file, **({"lossless": True} if suffix == "webp" else {}))
    assert torch.equal(decode_image(str(file)), as_tensor(PIXELS))


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK"])
def test_any_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    file = tmp_path / ("image.tiff" if mode == "CMYK" else "image.png")
    image = Image.fromarray(PIXELS).convert(mode)
    image.save(file)
    assert torch.equal(decode_image(str(file)), as_tensor(np.asarray(image.convert("RGB"))))


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257).save(file)
    decoded = decode_image(str(file))
    assert decoded.dtype == torch.uint8
    assert torch.equal(decoded, as_tensor(PIXELS[..., :1].repeat(3, axis=2)))


@pytest.mark.filterwarnings("error")
def test_a_palette_with_transparency_in_bytes_gives_its_colours(tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    image = Image.fromarray(PIXELS).quantize(8)
    image.save(file, transparency=bytes([0, 128, 255]))
    assert torch.equal(decode_image(str(file)), as_tensor(np.asarray(image.convert("RGB"))))


def test_floating_point_levels(tmp_path: Path) -> None:
    file, levels = tmp_path / "image.tiff", PIXELS[..., 0].astype(np.float32)
    Image.fromarray(levels).save(file)
    assert torch.equal(decode_image(str(file)), as_tensor(PIXELS[..., :1].repeat(3, axis=2)))
    for pixels in (levels / 255, levels - 128, levels * 257, levels * np.nan):
        Image.fromarray(pixels.astype(np.float32)).save(file)
        with pytest.raises(
            DataError, match=r"image\.tiff is no readable .*; valid: levels from 0 to"
        ):
            decode_image(str(file))


def test_photos_are_turned_upright(tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held turned by 90 degrees
    Image.fromarray(PIXELS).save(file, exif=exif)
    upright = np.asarray(Image.fromarray(PIXELS).transpose(Image.Transpose.ROTATE_270))
    assert torch.equal(decode_image(str(file)), as_tensor(upright))


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_animations_give_their_first_frame(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"image.{suffix}"
    black, white = (Image.new("RGB", (7, 5), colour) for colour in ("black", "white"))
    black.save(file, save_all=True, append_images=[white])
    decoded = decode_image(str(file))
    assert decoded.shape == (3, 5, 7)
    assert decoded.max() < 5


@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "missing"])
def test_unreadable_files_are_named(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "photo.jpg"
    Image.fromarray(PIXELS.repeat(20, axis=0)).save(file)
    whole = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        content = {"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"no image"}
        file.write_bytes(content[damage])
    with pytest.raises(DataError, match=r"photo\.jpg is no readable image"):
        decode_image(str(file))


def test_try_decode_returns_only_data_errors() -> None:
    def bug(index: int) -> torch.Tensor:
        raise KeyError(index)

    def unreadable(index: int) -> torch.Tensor:
        raise DataError(f"image {index}")

    assert str(try_decode(unreadable, 3)) == "image 3"
    with pytest.raises(KeyError):
        try_decode(bug, 3)
