"""Reader of COCO's layout, by torchvision's CocoDetection (which needs pycocotools)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path

from torchvision.datasets import CocoDetection

from fpnas.errors import DataError
from fpnas_detection.data import DetectionSet, Record


def read_coco(root: str | Path, split: str, classes: Sequence[str] = ()) -> DetectionSet:
    """The images in ``root/{split}`` with ``root/annotations/instances_{split}.json``.

    Crowds are ignored boxes. With ``classes``, objects of other names are left out; without, all
    categories are classes, sorted by name.

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
    records = [_record(data, folder, image, names, classes) for image in data.ids]
    return DetectionSet(tuple(records), classes)


def _record(
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
