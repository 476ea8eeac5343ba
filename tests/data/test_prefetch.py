from __future__ import annotations

import gc
import itertools
import threading
from collections.abc import Iterator

import pytest

from fpnas.data.prefetch import prefetch


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
