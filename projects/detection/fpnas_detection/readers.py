"""Readers of data sets in the layouts of Pascal VOC and COCO, by torchvision."""

from __future__ import annotations

import contextlib
import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torchvision.datasets import CocoDetection, VOCDetection

from fpnas.config import CfgNode
from fpnas.errors import DataError
from fpnas_detection.data import DetectionSet, Record

# Of a box in VOC, and what is subtracted from each.
_CORNERS = (("xmin", 1.0), ("ymin", 1.0), ("xmax", 0.0), ("ymax", 0.0))


def read_data(cfg: CfgNode, split: str, classes: tuple[str, ...]) -> DetectionSet:
    """The images of ``split`` in DATA.ROOT, in the layout of DETECTION.DATASET.

    ``classes``: their names; (): all that the annotations name.
    """
    read = {"voc": read_voc, "coco": read_coco}[cfg.DETECTION.DATASET]
    return read(cfg.DATA.ROOT, split, classes)


def read_voc(root: str | Path, split: str, classes: Sequence[str] = ()) -> DetectionSet:
    """The images named in ``ImageSets/Main/{split}.txt`` under ``root``.

    torchvision's VOCDetection looks for the years of the challenge in folders of its own; other
    data in this layout has none. Its parser of the XML files fits.

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
        _voc_record(file, objects, classes)
        for file, objects in zip(images, annotations, strict=True)
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


def _voc_record(file: Path, objects: list[dict[str, Any]], classes: Sequence[str]) -> Record:
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


def read_coco(root: str | Path, split: str, classes: Sequence[str] = ()) -> DetectionSet:
    """The images in ``root/{split}`` with ``root/annotations/instances_{split}.json``.

    Needs pycocotools. Crowds are ignored boxes. With ``classes``, objects of other names are left
    out; without, all categories are classes, sorted by name.

    Raises DataError if the annotations are missing or unreadable, or if there is no image.
    """
    folder = Path(root) / split
    file = Path(root) / "annotations" / f"instances_{split}.json"
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells what it does
            data = CocoDetection(str(folder), str(file))
        names = {entry["id"]: entry["name"] for entry in data.coco.dataset["categories"]}
    except ModuleNotFoundError:
        raise DataError("COCO's layout needs pycocotools: 'pip install pycocotools'.") from None
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"'{file}' holds no annotations of COCO: {error}.") from None
    if not data.ids:
        raise DataError(f"'{file}' names no image.")
    classes = tuple(classes or sorted(names.values()))
    records = [_coco_record(data, folder, image, names, classes) for image in data.ids]
    return DetectionSet(tuple(records), classes)


def _coco_record(
    data: CocoDetection, folder: Path, image: int, names: dict[int, str], classes: Sequence[str]
) -> Record:
    known = [item for item in data.coco.imgToAnns[image] if names[item["category_id"]] in classes]
    boxes = [[x, y, x + width, y + height] for x, y, width, height in (a["bbox"] for a in known)]
    return Record.from_lists(
        folder / data.coco.imgs[image]["file_name"],
        boxes,
        [classes.index(names[item["category_id"]]) + 1 for item in known],
        [bool(item.get("iscrowd", 0)) for item in known],
    )
