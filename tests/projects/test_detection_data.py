"""The detection project: readers, augmentation, batches and average precision."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from detection_cases import COLOURS, config, needs_coco, voc_object, write_voc
from torch import Tensor

from fpnas.data.streaming import SampleBatches
from fpnas.errors import ConfigError, DataError
from fpnas_detection.data import AugmentedSet, DetectionSet, Record, collate
from fpnas_detection.evaluate import coco_scores
from fpnas_detection.inference import detect
from fpnas_detection.readers import read_coco, read_voc

# Data ---------------------------------------------------------------------------------------------


def test_voc_boxes_are_the_pixels_of_the_objects(voc: Path) -> None:
    data = read_voc(voc, "train")
    assert data.classes == ("blue", "red")
    assert len(data) == 6
    for index, record in enumerate(data.records):
        pixels = data.image(index).float()
        for box, label in zip(record.boxes, record.labels, strict=True):
            x1, y1, x2, y2 = box.int().tolist()
            inside = pixels[:, y1:y2, x1:x2].mean((1, 2))
            expected = torch.tensor(COLOURS[data.classes[label - 1]]).float()
            assert (inside - expected).abs().max() < 12


def test_voc_difficult_unknown_and_flat_objects(tmp_path: Path) -> None:
    write_voc(tmp_path, count=1)
    objects = [
        voc_object("blue", 1, 1, 10, 20),
        voc_object("blue", 5, 5, 30, 30, difficult=1),
        voc_object("green", 5, 5, 30, 30),
        voc_object("red", 8, 9, 7, 20),  # x1 = 7 = x2 here
    ]
    file = tmp_path / "Annotations" / "image0.xml"
    file.write_text(f"<annotation>{''.join(objects)}</annotation>")
    data = read_voc(tmp_path, "val", ("red", "blue"))
    assert data.records[0].boxes.tolist() == [[0, 0, 10, 20], [4, 4, 30, 30]]
    assert data.records[0].ignored.tolist() == [False, True]
    assert data.target(0)["boxes"].tolist() == [[0, 0, 10, 20]]
    assert data.target(0)["labels"].tolist() == [2]
    file.write_text("<annotation></annotation>")
    assert read_voc(tmp_path, "val", ("red",)).target(0)["boxes"].shape == (0, 4)


def test_unreadable_data_is_named(tmp_path: Path) -> None:
    write_voc(tmp_path, count=1)
    with pytest.raises(DataError, match="test.txt"):
        read_voc(tmp_path, "test")
    (tmp_path / "Annotations" / "image0.xml").write_text("<annotation>")
    with pytest.raises(DataError, match="image0.xml"):
        read_voc(tmp_path, "train")


@needs_coco
def test_coco_reads_the_same_as_voc(voc: Path, tmp_path: Path) -> None:
    data = read_voc(voc, "train")
    images, annotations = [], []
    for number, record in enumerate(data.records):
        images.append({"id": number + 7, "file_name": record.file.name})
        for (x1, y1, x2, y2), label in zip(
            record.boxes.tolist(), record.labels.tolist(), strict=True
        ):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number + 7,
                    "category_id": 10 * label,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": 10, "name": "blue"}, {"id": 20, "name": "red"}]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    found = read_coco(tmp_path, "train")
    assert found.classes == data.classes
    for ours, theirs in zip(data.records, found.records, strict=True):
        assert torch.equal(ours.boxes, theirs.boxes)
        assert torch.equal(ours.labels, theirs.labels)
        assert theirs.file == tmp_path / "train" / ours.file.name
    with pytest.raises(DataError, match="instances_val.json"):
        read_coco(tmp_path, "val")


def test_augmented_boxes_follow_their_objects(voc: Path, arch_file: Path) -> None:
    cfg = config(arch_file, DETECTION__PHOTOMETRIC=0.0, DETECTION__VFLIP=0.5)
    cfg.DETECTION.ZOOM = (0.5, 1.1)
    samples = AugmentedSet(read_voc(voc, "train"), cfg)
    torch.manual_seed(0)
    seen = 0
    for _ in range(20):
        image, target = samples[0]  # one blue rectangle
        assert image.shape == (3, 64, 64)
        assert image.dtype == torch.float32
        if len(target["boxes"]) == 0:
            continue
        rows, columns = torch.where(image[2] - image[0] > 0.5)
        extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert (target["boxes"][0] - torch.stack(extent)).abs().max() <= 1.5
        seen += 1
    assert seen > 15


def test_batches_can_start_anywhere(voc: Path, arch_file: Path) -> None:
    cfg = config(arch_file)
    samples = AugmentedSet(read_voc(voc, "train"), cfg)
    batches = SampleBatches(samples, collate, 2, seed=3, num_workers=0)
    assert len(batches) == 3
    whole = list(islice(batches.iterate(), 5))
    for (images, ours), (expected, theirs) in zip(batches.iterate(3), whole[3:], strict=False):
        assert torch.equal(images, expected)
        assert all(torch.equal(a["boxes"], b["boxes"]) for a, b in zip(ours, theirs, strict=True))
    assert not torch.equal(whole[0][0], whole[3][0])  # another epoch
    with pytest.raises(ConfigError, match="BATCH_SIZE"):
        SampleBatches(samples, collate, 7, seed=0, num_workers=0)


# Evaluation ---------------------------------------------------------------------------------------


def perfect(data: DetectionSet) -> list[dict[str, Tensor]]:
    return [
        {"boxes": r.boxes, "labels": r.labels, "scores": torch.linspace(0.9, 0.5, len(r.labels))}
        for r in data.records
    ]


def nothing(data: DetectionSet) -> list[dict[str, Tensor]]:
    return [{name: value[:0] for name, value in one.items()} for one in perfect(data)]


@needs_coco
def test_perfect_detections_have_precision_one_and_none_zero(voc: Path) -> None:
    data = read_voc(voc, "val")
    scores = coco_scores(perfect(data), data)
    assert set(scores) == {"map", "map50", "map50_blue", "map50_red"}
    assert list(scores.values()) == pytest.approx([1.0] * 4)
    assert coco_scores(nothing(data), data) == dict.fromkeys(scores, 0.0)


@needs_coco
def test_precision_of_shifted_wrong_and_half_of_the_detections(voc: Path) -> None:
    data = read_voc(voc, "val")
    shifted = perfect(data)
    for one in shifted:
        one["boxes"] = one["boxes"] + torch.tensor([5.0, 0.0, 5.0, 0.0])  # IoU 18 / 28 = 0.643
    scores = coco_scores(shifted, data)
    assert scores["map50"] == pytest.approx(1.0)
    assert scores["map"] == pytest.approx(0.3)  # of ten thresholds 0.5, 0.55 and 0.6
    swapped = [{**one, "labels": 3 - one["labels"]} for one in perfect(data)]
    assert coco_scores(swapped, data)["map50"] == 0.0
    half = perfect(data)[:3] + nothing(data)[3:]  # 3 of 6 blue ones, 1 of 3 red ones
    scores = coco_scores(half, data)
    assert scores["map50_blue"] == pytest.approx(51 / 101)  # recall 0, 0.01, ... 0.5 of 101 points
    assert scores["map50_red"] == pytest.approx(34 / 101)


@needs_coco
def test_ignored_objects_do_not_count(voc: Path) -> None:
    data = read_voc(voc, "val")
    records = [
        replace(record, ignored=record.labels == 2) if len(record.labels) > 1 else record
        for record in data.records
    ]
    ignoring = DetectionSet(tuple(records), data.classes)
    for found in (perfect(data), [{k: v[:1] for k, v in one.items()} for one in perfect(data)]):
        scores = coco_scores(found, ignoring)
        assert set(scores) == {"map", "map50", "map50_blue"}
        assert scores["map"] == pytest.approx(1.0)


def test_detections_are_in_pixels_of_the_stored_image() -> None:
    class Whole(torch.nn.Linear):
        """Finds the whole image."""

        def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
            assert all(image.shape == (3, 64, 64) for image in images)
            return [
                {"boxes": torch.tensor([[0.0, 0.0, 64.0, 64.0]]), "scores": torch.ones(1),
                 "labels": torch.ones(1, dtype=torch.int64)}
                for _ in images
            ]  # fmt: skip

    images = [torch.zeros(3, 30, 50, dtype=torch.uint8), torch.zeros(3, 9, 7, dtype=torch.uint8)]
    found = detect(Whole(1, 1), images, 64)
    assert [one["boxes"].tolist() for one in found] == [[[0, 0, 50, 30]], [[0, 0, 7, 9]]]


def test_records_drop_boxes_without_area() -> None:
    boxes = [[0.0, 0.0, 5.0, 5.0], [3.0, 3.0, 3.0, 9.0]]
    record = Record.from_lists(Path("x.jpg"), boxes, [1, 2], [False, True])
    assert record.labels.tolist() == [1]
    assert Record.from_lists(Path("x.jpg"), [], [], []).boxes.shape == (0, 4)
