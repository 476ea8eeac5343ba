"""Prefetching: one background thread works ahead of the consumer."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


class _End:
    """The last thing in the queue: the iterator is exhausted, or failed with ``error``."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def prefetch(items: Iterator[T], depth: int = 4) -> Iterator[T]:
    """The same items, up to ``depth`` of them made in advance by a thread.

    An exception of ``items`` is raised where the failed item would have come. The thread starts
    with the first item asked for, and ends with the generator: exhausted, closed or collected.
    """
    ready: queue.Queue[T | _End] = queue.Queue(depth)
    stopped = threading.Event()

    def produce() -> None:
        error = None
        try:
            for item in items:
                if stopped.is_set():
                    return
                ready.put(item)
        except BaseException as raised:  # to be raised in the consumer's thread
            error = raised
        ready.put(_End(error))

    thread = threading.Thread(target=produce, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if not isinstance(item, _End):
                yield item
            elif item.error is None:
                return
            else:
                raise item.error
    finally:
        stopped.set()
        # Emptying the queue releases a producer that waits for room in it.
        while thread.is_alive():
            _discard(ready)
            thread.join(timeout=0.01)


def _discard(ready: queue.Queue) -> None:
    try:
        while True:
            ready.get_nowait()
    except queue.Empty:
        pass
