from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from fpnas.data import TensorImages, choose_classes, stratified_split
from fpnas.errors import ConfigError, DataError

labels_lists = st.lists(st.integers(0, 6), min_size=2, max_size=120)


@given(labels_lists, st.floats(0.05, 0.95), st.integers(0, 1000))
def test_split_is_disjoint_complete_and_stratified(
    labels_list: list[int], fraction: float, seed: int
) -> None:
    labels = torch.tensor(labels_list)
    total = round(fraction * len(labels))
    assume(0 < total < len(labels))
    first, second = stratified_split(labels, fraction, seed)
    assert sorted(first.tolist() + second.tolist()) == list(range(len(labels)))
    assert len(first) == total
    for label in set(labels_list):
        quota = fraction * labels_list.count(label)
        assert abs(int((labels[first] == label).sum()) - quota) < 1


@given(labels_lists, st.integers(0, 1000))
def test_split_is_a_function_of_the_seed(labels_list: list[int], seed: int) -> None:
    labels = torch.tensor(labels_list)
    again = stratified_split(labels, 0.5, seed)
    for part, same in zip(stratified_split(labels, 0.5, seed), again, strict=True):
        assert torch.equal(part, same)


def test_split_differs_between_seeds_and_leaves_the_global_generator_alone() -> None:
    labels = torch.zeros(100, dtype=torch.long)
    state = torch.get_rng_state()
    splits = {tuple(stratified_split(labels, 0.5, seed)[0].tolist()) for seed in range(5)}
    assert len(splits) == 5
    assert torch.equal(torch.get_rng_state(), state)


def test_split_into_an_empty_part() -> None:
    with pytest.raises(DataError, match="3 images cannot be split"):
        stratified_split(torch.tensor([0, 0, 1]), 0.1, seed=0)


@given(st.integers(1, 8), st.integers(0, 1000))
def test_chosen_classes_keep_order_and_images(count: int, seed: int) -> None:
    labels = torch.arange(24) % 8
    pixels = labels.to(torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    names = [f"class {label}" for label in range(8)]
    chosen = choose_classes(TensorImages(pixels, labels, names), count, seed)
    assert len(chosen.classes) == count
    assert list(chosen.classes) == sorted(chosen.classes)
    assert len(chosen) == 3 * count
    for index, label in enumerate(chosen.labels.tolist()):
        assert chosen.classes[label] == f"class {int(chosen.image(index)[0, 0, 0])}"


def test_chosen_classes_agree_between_splits() -> None:
    names = [str(label) for label in range(10)]
    train = TensorImages(torch.zeros(20, 2, 2, dtype=torch.uint8), torch.arange(20) % 10, names)
    test = TensorImages(torch.zeros(10, 2, 2, dtype=torch.uint8), torch.arange(10), names)
    picks = {choose_classes(train, 3, seed).classes for seed in range(6)}
    assert len(picks) > 1
    assert all(
        choose_classes(train, 3, seed).classes == choose_classes(test, 3, seed).classes
        for seed in range(6)
    )


def test_more_random_classes_than_there_are() -> None:
    images = TensorImages(torch.zeros(2, 2, 2, dtype=torch.uint8), [0, 1], ("a", "b"))
    with pytest.raises(ConfigError, match="NUM_RANDOM_CLASSES is 3, but the data set has 2"):
        choose_classes(images, 3, seed=0)
