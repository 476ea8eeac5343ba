"""Reader of the layout of Pascal VOC: Annotations/, ImageSets/Main/ and JPEGImages/.

torchvision's VOCDetection looks for the years of the challenge in folders of its own; other data in
this layout has none. Its parser of the XML files fits.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torchvision.datasets import VOCDetection

from fpnas.errors import DataError
from fpnas_detection.data import DetectionSet, Record


def read_voc(root: str | Path, split: str, classes: Sequence[str] = ()) -> DetectionSet:
    """The images named in ``ImageSets/Main/{split}.txt`` under ``root``.

    Pixels count from 1 in VOC, and both corners belong to the box: 1 to 10 is [0, 10] here.
    "difficult" objects are ignored ones. With ``classes``, objects of other names are left out;
    without, all names that the split's annotations have are classes, sorted.

    Raises DataError if a file is missing or unreadable, or if there is no image.
    """
    root = Path(root)
    list_file = root / "ImageSets" / "Main" / f"{split}.txt"
    if not list_file.is_file():
        raise DataError(
            f"'{list_file}' does not exist; DATA.ROOT must be a folder in VOC's layout."
        )
    names = [line.split()[0] for line in list_file.read_text().splitlines() if line.strip()]
    if not names:
        raise DataError(f"'{list_file}' names no image.")
    annotations = [_annotation(root / "Annotations" / f"{name}.xml") for name in names]
    if not classes:
        classes = sorted({item["name"] for objects in annotations for item in objects})
    images = [root / "JPEGImages" / f"{name}.jpg" for name in names]
    records = [
        _record(file, objects, classes) for file, objects in zip(images, annotations, strict=True)
    ]
    return DetectionSet(tuple(records), tuple(classes))


def _annotation(file: Path) -> list[dict[str, Any]]:
    """The objects of an annotation file, as dicts of text."""
    try:
        root = ElementTree.parse(file).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise DataError(f"'{file}' is no readable annotation: {error}.") from None
    content = VOCDetection.parse_voc_xml(root).get("annotation", {})
    # Without objects there is no such key, and without anything at all the content is no dict.
    return content.get("object", []) if isinstance(content, dict) else []


def _record(file: Path, objects: list[dict[str, Any]], classes: Sequence[str]) -> Record:
    known = [item for item in objects if item["name"] in classes]
    try:
        boxes = [[float(item["bndbox"][key]) - shift for key, shift in _CORNERS] for item in known]
    except (KeyError, ValueError) as error:
        raise DataError(f"The annotation of '{file.name}' has a box of no use: {error}.") from None
    return Record.from_lists(
        file,
        boxes,
        [classes.index(item["name"]) + 1 for item in known],
        [item.get("difficult") == "1" for item in known],
    )


_CORNERS = (("xmin", 1.0), ("ymin", 1.0), ("xmax", 0.0), ("ymax", 0.0))
