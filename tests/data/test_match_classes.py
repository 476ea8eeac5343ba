"""Classes of a data set found among those of a network."""

from __future__ import annotations

import pytest
import torch

from fpnas.data import TensorImages, match_classes
from fpnas.data.match_classes import synset_index
from fpnas.errors import DataError
from fpnas.model_zoo.record import imagenet_classes

NETWORK = ("great white shark", "Cat", "dog")


def images_of(classes, labels=None) -> TensorImages:
    labels = list(range(len(classes))) if labels is None else labels
    return TensorImages(torch.zeros(len(labels), 3, 2, 2, dtype=torch.uint8), labels, classes)


def test_other_order_and_spelling():
    found = match_classes(images_of(["cat", "dog", "Great_White-Shark"], [0, 2, 1, 2]), NETWORK)
    assert found.labels.tolist() == [1, 0, 2, 0]
    assert found.classes == NETWORK


def test_some_of_the_classes():
    assert match_classes(images_of(["dog"]), NETWORK).labels.tolist() == [2]


def test_same_classes_change_nothing():
    images = images_of(NETWORK)
    assert match_classes(images, NETWORK) is images


def test_unknown_class_is_named():
    with pytest.raises(DataError, match="1 of the 2 classes.*bird.*great white shark"):
        match_classes(images_of(["bird", "cat"]), NETWORK)


def test_two_spellings_of_one_class():
    with pytest.raises(DataError, match="same name"):
        match_classes(images_of(["cat", "CAT"]), NETWORK)


def test_synset_ids_stand_for_imagenets_classes():
    images = images_of(["n01440764", "n02510455", "n15075141"])
    found = match_classes(images, imagenet_classes())
    assert [found.classes[label] for label in found.labels] == [
        "tench",
        "giant panda",
        "toilet tissue",
    ]
    with pytest.raises(DataError, match="n99999999"):
        match_classes(images_of(["n01440764", "n99999999"]), imagenet_classes())


def test_synsets_agree_with_timm():
    info = pytest.importorskip("timm.data").ImageNetInfo()
    assert list(synset_index()) == info.label_names()
