"""Sums of one term from each of several lists, largest first, without forming all of them."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import count

Deviations = tuple[tuple[int, int], ...]


def descending_sums(lists: Sequence[Sequence[float]]) -> Iterator[tuple[float, Deviations]]:
    """Yield ``(sum, deviations)`` for every way to take one term from each list, largest sum first.

    Each list is sorted in descending order and not empty. ``deviations`` holds ``(list, position)``
    for the lists whose term is not their first. Taking n sums costs O(n log n), however many lists
    there are: a heap, in which each combination has exactly one predecessor that is no smaller.

    The lists are visited in the order of the loss from their first to their second term. A
    combination whose last deviation is position ``j`` of list ``i`` is followed by the combinations
    that (1) go on to position ``j + 1``, (2) deviate in list ``i + 1`` as well, or (3), if
    ``j == 1``, deviate in list ``i + 1`` instead, which loses at least as much as list ``i``.
    """
    order = sorted(
        (i for i, terms in enumerate(lists) if len(terms) > 1),
        key=lambda i: lists[i][0] - lists[i][1],
    )
    terms = [lists[i] for i in order]
    losses = [t[0] - t[1] for t in terms]
    best = float(sum(t[0] for t in lists))
    yield best, ()
    if not order:
        return

    ticket = count()  # orders equal sums by age, so that the heap never compares further
    heap: list[tuple[float, int, Deviations, int, int]] = []

    def push(total: float, kept: Deviations, i: int, j: int) -> None:
        heapq.heappush(heap, (-total, next(ticket), kept, i, j))

    push(best - losses[0], (), 0, 1)
    while heap:
        negative, _, kept, i, j = heapq.heappop(heap)
        total = -negative
        deviations = (*kept, (order[i], j))
        yield total, deviations
        if j + 1 < len(terms[i]):
            push(total + (terms[i][j + 1] - terms[i][j]), kept, i, j + 1)
        if i + 1 < len(terms):
            push(total - losses[i + 1], deviations, i + 1, 1)
            if j == 1:
                push(total - (losses[i + 1] - losses[i]), kept, i + 1, 1)
