"""What every trainer asks of its data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol


class BatchSource(Protocol):
    """Endless batches that can start anywhere, such as :class:`fpnas.data.TrainLoader`."""

    def iterate(self, start_iteration: int = 0) -> Iterator[Any]:
        """Batches ``start_iteration``, ``start_iteration + 1``, ... without end."""
