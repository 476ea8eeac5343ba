"""Average precision as COCO defines it, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from torch import nn

from fpnas.errors import UserError
from fpnas.training.accuracy import evaluating
from fpnas_detection.data import DetectionSet
from fpnas_detection.inference import Detections, detect


def evaluate(
    model: nn.Module, data: DetectionSet, side: int, batch_size: int = 8
) -> dict[str, float]:
    """Scores of ``model`` on all images of ``data``; see :func:`coco_scores`.

    ``side``: S, of the model's input. The modes of the model's parts are as before afterwards.
    """
    with evaluating(model):
        found = []
        for start in range(0, len(data), batch_size):
            rows = range(start, min(start + batch_size, len(data)))
            found += detect(model, [data.image(index) for index in rows], side)
    return coco_scores(found, data)


def coco_scores(found: list[Detections], data: DetectionSet) -> dict[str, float]:
    """Average precision of detections ``found``, one entry for each image of ``data``.

    Returns shares in [0, 1]: "map" (mean over the classes and over IoU 0.5, 0.55, ... 0.95),
    "map50" (IoU 0.5), and "map50_NAME" of each class. A class without objects has none and does
    not count.

    Raises UserError if pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ModuleNotFoundError:
        raise UserError("Evaluation needs pycocotools: 'pip install pycocotools'.") from None

    detections = _detections(found)
    if not detections:  # pycocotools cannot load an empty list
        return dict.fromkeys(["map", "map50", *(f"map50_{n}" for n in _present(data))], 0.0)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells what it does
        truth = COCO()
        truth.dataset = _annotations(data)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    # [IoU, recall, class, all areas, 100 detections]; -1 where a class has no object.
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    return {
        "map": _mean(precision),
        "map50": _mean(precision[0]),
        **{f"map50_{name}": _mean(precision[0, :, data.classes.index(name)])
           for name in _present(data)},
    }  # fmt: skip


def _mean(precision: np.ndarray) -> float:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else 0.0


def _present(data: DetectionSet) -> list[str]:
    """Classes that have an object that counts."""
    labels = {label for record in data.records for label in record.labels[~record.ignored].tolist()}
    return [name for number, name in enumerate(data.classes, 1) if number in labels]


def _annotations(data: DetectionSet) -> dict[str, Any]:
    """``data`` as the contents of a JSON file of COCO. Ids count from 1: 0 stands for none."""
    objects = []
    for image, record in enumerate(data.records, 1):
        for box, label, ignored in zip(record.boxes, record.labels, record.ignored, strict=True):
            x, y, width, height = _as_coco(box)
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": image,
                    "category_id": int(label),
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": int(ignored),
                }
            )
    return {
        "images": [{"id": image} for image in range(1, len(data) + 1)],
        "annotations": objects,
        "categories": [{"id": i, "name": name} for i, name in enumerate(data.classes, 1)],
        "info": {},
    }


def _detections(found: list[Detections]) -> list[dict[str, Any]]:
    return [
        {
            "image_id": image,
            "category_id": int(label),
            "bbox": _as_coco(box),
            "score": float(score),
        }
        for image, one in enumerate(found, 1)
        for box, label, score in zip(one["boxes"], one["labels"], one["scores"], strict=True)
    ]


def _as_coco(box: Any) -> list[float]:
    x1, y1, x2, y2 = box.tolist()
    return [x1, y1, x2 - x1, y2 - y1]
