from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fpnas.config import CfgNode, get_cfg
from fpnas.data import TensorImages, TestLoader, TrainLoader, build_dataset, preprocessing
from fpnas.data.augment import Augmentation, image_transform
from fpnas.data.loader import ImageReader
from fpnas.data.streaming import prefetch
from fpnas.errors import ConfigError, DataError
from fpnas.utils.rng import generator_for

Batches = list[tuple[Tensor, Tensor]]

AUGMENTATIONS = {
    "pad": {"CROP": "pad", "ERASE": 0.5},
    "resized": {"CROP": "resized", "SCALE": (0.3, 1.0)},
    "policy": {"CROP": "pad", "POLICY": "randaugment"},
}


def take(loader: TrainLoader, count: int, start: int = 0) -> Batches:
    batches = loader.iterate(start)
    taken = list(itertools.islice(batches, count))
    batches.close()
    return taken


def assert_same(first: Batches, second: Batches) -> None:
    for (images, labels), (other_images, other_labels) in zip(first, second, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


@pytest.fixture(params=["memory", "disk"])
def images(request: pytest.FixtureRequest, two_classes: CfgNode):
    """The 13 training images of two_classes, in memory or on disk."""
    two_classes.DATA.CACHE = "always" if request.param == "memory" else "never"
    return build_dataset(two_classes, "train")


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
@pytest.mark.parametrize("start", [1, 2, 3, 7])  # an epoch has three batches
def test_any_start_gives_the_same_batches(images, two_classes, augmentation: str, start) -> None:
    two_classes.DATA.AUGMENT.update(AUGMENTATIONS[augmentation])
    whole = take(TrainLoader(images, two_classes, batch_size=4, seed=3), 9)
    resumed = take(TrainLoader(images, two_classes, batch_size=4, seed=3), 9 - start, start)
    assert_same(resumed, whole[start:])


@pytest.mark.parametrize("augmentation", ["resized", "policy"])
def test_number_of_workers_changes_nothing(images, two_classes: CfgNode, augmentation) -> None:
    two_classes.DATA.AUGMENT.update(AUGMENTATIONS[augmentation])
    alone = take(TrainLoader(images, two_classes, batch_size=4, seed=0), 4, start=2)
    two_classes.DATA.NUM_WORKERS = 2
    assert_same(take(TrainLoader(images, two_classes, batch_size=4, seed=0), 4, start=2), alone)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
@pytest.mark.parametrize("num_workers", [0, 1])
def test_global_generator_is_left_alone(images, two_classes, augmentation, num_workers) -> None:
    two_classes.DATA.AUGMENT.update(AUGMENTATIONS[augmentation])
    two_classes.DATA.NUM_WORKERS = num_workers
    state = torch.get_rng_state()
    loader = TrainLoader(images, two_classes, batch_size=4, seed=0)
    first = take(loader, 2)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(99)
        assert_same(take(loader, 2), first)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_ranks_partition_the_batch(images, two_classes: CfgNode, augmentation: str) -> None:
    two_classes.DATA.AUGMENT.update(AUGMENTATIONS[augmentation])
    whole = take(TrainLoader(images, two_classes, batch_size=6, seed=1), 3)
    ranks = [
        take(TrainLoader(images, two_classes, 6, seed=1, rank=rank, world_size=3), 3)
        for rank in range(3)
    ]
    joined = [
        (torch.cat([images for images, _ in parts]), torch.cat([labels for _, labels in parts]))
        for parts in zip(*ranks, strict=True)
    ]
    assert_same(joined, whole)


def test_epochs_and_seeds_differ(images, two_classes: CfgNode) -> None:
    loader = TrainLoader(images, two_classes, batch_size=13, seed=0)
    (first, labels), (second, other_labels) = take(loader, 2)
    assert not torch.equal(first, second)
    assert labels.bincount().tolist() == other_labels.bincount().tolist() == [7, 6]
    other_seed = take(TrainLoader(images, two_classes, batch_size=13, seed=1), 1)
    assert not torch.equal(other_seed[0][0], first)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_equal_images_are_augmented_anew_every_time(cfg: CfgNode, augmentation: str) -> None:
    cfg.DATA.AUGMENT.update(AUGMENTATIONS[augmentation])
    photo = torch.randint(256, (1, 3, 12, 12), dtype=torch.uint8, generator=generator_for(0))
    copies = TensorImages(photo.expand(4, -1, -1, -1), [0] * 4, ("only",))
    whole_epochs = take(TrainLoader(copies, cfg, batch_size=4, seed=0), 4)
    assert len({image.numpy().tobytes() for batch, _ in whole_epochs for image in batch}) > 12
    # One image a batch: first different batches of an epoch, then the same batch of all epochs.
    for count in (4, 1):
        few = copies.subset(torch.arange(count))
        single = take(TrainLoader(few, cfg, batch_size=1, seed=0), 4)
        assert len({batch.numpy().tobytes() for batch, _ in single}) > 2


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**31))
@settings(max_examples=30)
def test_an_epoch_shows_each_image_at_most_once(count: int, batch_size: int, seed: int) -> None:
    cfg = get_cfg()
    cfg.DATA.INPUT_SIZE = 2
    cfg.DATA.MEAN, cfg.DATA.STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    pixels = torch.arange(count, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    images = TensorImages(pixels, [0] * count, ("only",))
    if count < batch_size:
        with pytest.raises(DataError, match="too few"):
            TrainLoader(images, cfg, batch_size, seed)
        return
    loader = TrainLoader(images, cfg, batch_size, seed, augment=False)
    assert len(loader) == count // batch_size
    seen = torch.cat([batch[:, 0, 0, 0] for batch, _ in take(loader, len(loader))])
    assert len(seen.unique()) == len(seen) == len(loader) * batch_size


def test_without_augmentation_images_are_only_preprocessed(images, two_classes: CfgNode) -> None:
    loader = TrainLoader(images, two_classes, batch_size=13, seed=0, augment=False)
    ((batch, labels),) = take(loader, 1)
    transform = preprocessing(two_classes)
    expected = {
        (label, transform(images.image(index)).numpy().tobytes())
        for index, label in enumerate(images.labels.tolist())
    }
    found = {
        (label, image.numpy().tobytes())
        for image, label in zip(batch, labels.tolist(), strict=True)
    }
    assert found == expected


def test_labels_stay_with_their_images() -> None:
    cfg = get_cfg()
    cfg.DATA.INPUT_SIZE = 4
    cfg.DATA.MEAN, cfg.DATA.STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    labels = torch.arange(40) % 5
    pixels = (labels * 50).to(torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    images = TensorImages(pixels, labels, "abcde").subset(torch.arange(3, 40))
    for batch, batch_labels in take(TrainLoader(images, cfg, batch_size=8, seed=0), 6):
        brightest = batch.flatten(1).max(dim=1).values
        torch.testing.assert_close(brightest * 255, batch_labels * 50.0)


@pytest.mark.parametrize(("batch_size", "world_size"), [(4, 3), (0, 1)])
def test_batch_must_be_divisible(in_memory, cfg, batch_size: int, world_size: int) -> None:
    with pytest.raises(ConfigError, match="cannot be divided among"):
        TrainLoader(in_memory, cfg, batch_size, seed=0, world_size=world_size)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_test_loader_shows_all_in_order(images, two_classes: CfgNode, num_workers: int) -> None:
    two_classes.DATA.NUM_WORKERS = num_workers
    loader = TestLoader(images, two_classes, batch_size=5)
    batches = list(loader)
    assert [len(labels) for _, labels in batches] == [5, 5, 3]
    assert len(loader) == 3
    transform = preprocessing(two_classes)
    expected = torch.stack([transform(images.image(index)) for index in range(13)])
    assert torch.equal(torch.cat([batch for batch, _ in batches]), expected)
    assert torch.equal(torch.cat([labels for _, labels in batches]), images.labels)


def test_test_loader_ranks_share_the_images(images, two_classes: CfgNode) -> None:
    ranks = [list(TestLoader(images, two_classes, 4, rank, world_size=3)) for rank in range(3)]
    per_rank = [torch.cat([labels for _, labels in batches]) for batches in ranks]
    assert [len(labels) for labels in per_rank] == [5, 4, 4]
    for rank, labels in enumerate(per_rank):
        assert torch.equal(labels, images.labels[rank::3])


@pytest.fixture
def damaged(two_classes: CfgNode, tmp_path: Path) -> CfgNode:
    """Images on disk, two cats of which cannot be read."""
    two_classes.DATA.CACHE = "never"
    for name in ("train/cat/0", "train/cat/6", "val/cat/1"):
        (tmp_path / f"{name}.png").write_bytes(b"damaged")
    return two_classes


@pytest.mark.parametrize("num_workers", [0, 2])
def test_corrupt_image_on_disk_is_named(damaged: CfgNode, num_workers: int) -> None:
    damaged.DATA.NUM_WORKERS = num_workers
    train = TrainLoader(build_dataset(damaged, "train"), damaged, batch_size=13, seed=0)
    message = r"is no readable image: [^\n]*\. DATA\.SKIP_CORRUPT True leaves [^\n]*$"
    with pytest.raises(DataError, match=rf"^\S*train/cat/[06]\.png {message}"):
        next(train.iterate())
    test = TestLoader(build_dataset(damaged, "test"), damaged, batch_size=2)
    with pytest.raises(DataError, match=rf"^\S*val/cat/1\.png {message}"):
        list(test)


def test_skipped_image_is_replaced_in_training(damaged: CfgNode, caplog) -> None:
    damaged.DATA.SKIP_CORRUPT = True
    images = build_dataset(damaged, "train")
    loader = TrainLoader(images, damaged, batch_size=13, seed=0, augment=False)
    batches = take(loader, 3)
    # 0 is replaced by 1 (a cat), 6 by 7 (the first dog): no image is lost, none is unlabelled.
    for _, labels in batches:
        assert labels.bincount().tolist() == [6, 7]
    warnings = [record.message for record in caplog.records]
    assert len(warnings) == 2
    assert "Skipping an unreadable image (DATA.SKIP_CORRUPT): " in warnings[0]
    assert warnings[1] == "2 unreadable images were skipped so far."
    damaged.DATA.NUM_WORKERS = 2
    again = TrainLoader(images, damaged, batch_size=13, seed=0, augment=False)
    assert_same(take(again, 2, start=1), batches[1:])


def test_skipped_image_is_left_out_of_a_test(damaged: CfgNode, caplog) -> None:
    damaged.DATA.SKIP_CORRUPT = True
    images = build_dataset(damaged, "test")
    loader = TestLoader(images, damaged, batch_size=1)
    labels = torch.cat([labels for _, labels in loader])
    assert labels.tolist() == [0, 0, 1, 1]
    assert caplog.messages[-1] == "1 unreadable images were skipped so far."


def test_nothing_readable_on_disk(damaged: CfgNode, tmp_path: Path) -> None:
    damaged.DATA.SKIP_CORRUPT = True
    images = build_dataset(damaged, "train")
    for file in (tmp_path / "train").rglob("*.png"):
        file.write_bytes(b"damaged")
    with pytest.raises(DataError, match="None of 13 images is readable"):
        next(TrainLoader(images, damaged, batch_size=2, seed=0).iterate())


def test_signals_to_the_workers_do_not_stop_the_trainer(damaged: CfgNode) -> None:
    """Ctrl-C and SIGTERM reach the whole process group; the trainer then finishes its step."""
    damaged.DATA.SKIP_CORRUPT, damaged.DATA.NUM_WORKERS = True, 2
    images = build_dataset(damaged, "train")
    expected = take(TrainLoader(images, damaged, batch_size=4, seed=0), 6)
    earlier = multiprocessing.active_children()  # those of `expected` may still be leaving
    batches = TrainLoader(images, damaged, batch_size=4, seed=0).iterate()
    taken = [next(batches)]
    workers = [worker for worker in multiprocessing.active_children() if worker not in earlier]
    assert len(workers) == 2
    for worker in workers:
        os.kill(worker.pid, signal.SIGINT)
    taken += list(itertools.islice(batches, 5))
    assert_same(taken, expected)
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(timeout=60)  # a worker that died of the signal would raise here
        assert worker.exitcode == 0
    batches.close()


def test_samples_can_be_sent_to_spawned_workers(images, two_classes: CfgNode) -> None:
    augmentation = Augmentation.from_cfg(two_classes)
    transform = image_transform(augmentation, preprocessing(two_classes))
    reader = ImageReader(images, transform, seed=0, unreadable="raise")
    copy = pickle.loads(pickle.dumps(reader))
    keys = [(0, 3), (2, 5)]
    assert torch.equal(copy(keys).images, reader(keys).images)


def prefetch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize("depth", [1, 4])
def test_same_items_in_order(depth: int) -> None:
    assert list(prefetch(iter(range(50)), depth)) == list(range(50))
    assert not prefetch_threads()


def test_error_arrives_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise KeyError("third")

    received = []
    with pytest.raises(KeyError, match="third"):
        for item in prefetch(items()):
            received.append(item)
    assert received == [1, 2]
    assert not prefetch_threads()


def test_closing_ends_the_thread_of_an_endless_iterator() -> None:
    endless = prefetch(itertools.count(), depth=2)
    assert [next(endless) for _ in range(3)] == [0, 1, 2]
    assert len(prefetch_threads()) == 1
    endless.close()
    assert not prefetch_threads()


def test_forgetting_the_iterator_ends_the_thread() -> None:
    endless = prefetch(itertools.count(), depth=2)
    next(endless)
    del endless
    gc.collect()
    assert not prefetch_threads()
