"""Masks from the boxes of Pascal VOC: each object is the ellipse inscribed in its box.

For round objects, such as cells, that is a fair label; a weak one all the same: it is as exact as
the boxes, and nobody has drawn an outline.
"""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fpnas.errors import DataError

Box = tuple[str, tuple[float, float, float, float]]  # class, (x1, y1, x2, y2) in px, from 0


def write_split(voc: Path, output: Path, split: str, classes: Sequence[str]) -> float:
    """Copy the images of a split to ``output/split/images`` and draw ``output/split/masks``.

    Args:
        voc: with Annotations/, ImageSets/Main/ and JPEGImages/.
        output: DATA.ROOT of a training.
        split: name of a file in ImageSets/Main.
        classes: number 1 and so on; 0 is the background. Later ones lie over earlier ones. Objects
            of other classes are left out.

    Returns the share of the objects' pixels on which objects of different classes overlap.
    Raises DataError if a file is missing or unreadable.
    """
    list_file = voc / "ImageSets" / "Main" / f"{split}.txt"
    if not list_file.is_file():
        raise DataError(f"'{list_file}' does not exist; the folder must be in VOC's layout.")
    images, masks = output / split / "images", output / split / "masks"
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    covered = contested = 0
    for name in list_file.read_text().split():
        size, boxes = read_boxes(voc / "Annotations" / f"{name}.xml")
        layers = draw_layers(size, boxes, classes)
        covered += int(layers.any(0).sum())
        contested += int((layers.sum(0) > 1).sum())
        Image.fromarray(flatten(layers)).save(masks / f"{name}.png")
        shutil.copyfile(voc / "JPEGImages" / f"{name}.jpg", images / f"{name}.jpg")
    return contested / max(1, covered)


def read_boxes(file: Path) -> tuple[tuple[int, int], list[Box]]:
    """Width and height of the image, and its boxes. VOC counts pixels from 1, both ends included.

    Raises DataError if the file is missing or no annotation.
    """
    try:
        root = ElementTree.parse(file).getroot()
        size = int(root.findtext("size/width")), int(root.findtext("size/height"))
        boxes = []
        for item in root.findall("object"):
            x1, y1, x2, y2 = (
                float(item.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")
            )
            boxes.append((item.findtext("name"), (x1 - 1, y1 - 1, x2, y2)))
    except (OSError, ElementTree.ParseError, TypeError, ValueError) as error:
        raise DataError(f"'{file}' is no readable annotation: {error}.") from None
    return size, boxes


def draw_layers(size: tuple[int, int], boxes: list[Box], classes: Sequence[str]) -> np.ndarray:
    """bool [len(classes), H, W]: where objects of each class are."""
    layers = [Image.new("1", size) for _ in classes]
    for name, (x1, y1, x2, y2) in boxes:
        if name in classes and x2 > x1 and y2 > y1:
            pen = ImageDraw.Draw(layers[classes.index(name)])
            pen.ellipse((x1, y1, x2 - 1, y2 - 1), fill=1)
    return np.stack([np.array(layer) for layer in layers])


def flatten(layers: np.ndarray) -> np.ndarray:
    """uint8 [H, W]: number of the last class that is there, from 1; 0 where there is none."""
    numbers = np.arange(1, len(layers) + 1, dtype=np.uint8)[:, None, None]
    return (layers * numbers).max(0).astype(np.uint8)
