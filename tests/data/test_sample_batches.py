"""Batches of samples of any kind: a pure function of seed and iteration."""

from __future__ import annotations

import itertools

import pytest
import torch

from fpnas.data.streaming import SampleBatches
from fpnas.errors import ConfigError, DataError


class Numbered:
    """Sample i is (i, a random number, as an augmentation draws one)."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> tuple[int, float]:
        return index, float(torch.rand(()))


class Unreadable(Numbered):
    def __getitem__(self, index: int) -> tuple[int, float]:
        raise DataError(f"cannot read sample{index}.png")


def batches(samples=None, batch_size: int = 3, seed: int = 0, num_workers: int = 0):
    return SampleBatches(samples or Numbered(), list, batch_size, seed, num_workers)


def take(source: SampleBatches, count: int, start: int = 0) -> list[list[tuple[int, float]]]:
    return list(itertools.islice(source.iterate(start), count))


def test_an_epoch_takes_a_sample_once() -> None:
    source = batches()
    assert len(source) == 2
    for first in (0, 2, 4):
        indices = [index for batch in take(source, 2, first) for index, _ in batch]
        assert len(set(indices)) == 6
    orders = [[i for batch in take(source, 2, first) for i, _ in batch] for first in (0, 2)]
    assert orders[0] != orders[1]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_depend_on_seed_and_iteration_alone(num_workers: int) -> None:
    whole = take(batches(), 6)
    assert take(batches(num_workers=num_workers), 3, start=3) == whole[3:]
    assert take(batches(seed=1), 6) != whole
    drawn = [number for batch in whole for _, number in batch]
    assert len(set(drawn)) == len(drawn)  # the same sample is augmented anew in each epoch


def test_the_callers_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    take(batches(), 2)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_unreadable_file_is_named(num_workers: int) -> None:
    with pytest.raises(DataError, match=r"sample\d.png"):
        take(batches(Unreadable(), num_workers=num_workers), 1)


@pytest.mark.parametrize("batch_size", [0, 8])
def test_impossible_batch_size(batch_size: int) -> None:
    with pytest.raises(ConfigError, match=f"is {batch_size}; valid: 1 to 7"):
        batches(batch_size=batch_size)
