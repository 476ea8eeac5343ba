"""LatencyTable: the latency of a network as the sum of the measured latencies of its blocks."""

from __future__ import annotations

import datetime
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from iopath.common.file_io import file_lock
from tqdm import tqdm

from fpnas.archs import Architecture
from fpnas.blocks import BlockShape
from fpnas.errors import UserError
from fpnas.latency.block_timer import OnnxTimer, Timer
from fpnas.spaces import CostTable, NetworkSpace
from fpnas.utils.file_io import atomic_write

logger = logging.getLogger(__name__)

# Blocks that are measured, and then written to the file, together.
_CHUNK = 32
# Of a time in ms. Rounded when measured, so that a table read from its file gives equal costs.
_DECIMALS = 7


class LatencyTable:
    """Milliseconds of blocks on one machine: batch of one, float32, BatchNorm folded.

    A block is measured alone, once for every distinct :class:`BlockShape`, when it is first asked
    for. The time of a call that computes nothing is subtracted. With a ``path`` every measurement
    is kept there, so that an interrupted table is continued and a later run measures nothing.
    Several runs may add to one file (beside which ``.lock`` appears).

    A network costs the sum of its blocks plus ``intercept_ms``: 0 until :meth:`calibrate`.

    Args:
        path: JSON file; it is read if it exists. None: the table lives in memory.
        threads: of one call.
        other_machine: accept a file that was measured elsewhere (other processor, number of
            threads or ONNX Runtime). Such a table is only read: what it lacks is not measured.
        timer: what to measure with. None: ONNX Runtime with ``threads`` threads.

    Raises UserError, which names the file, if it is damaged or from another machine.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        threads: int = 1,
        other_machine: bool = False,
        timer: Timer | None = None,
    ) -> None:
        self.path = None if path is None else Path(path)
        self.timer = OnnxTimer(threads) if timer is None else timer
        self.machine = self.timer.describe()
        self.date = datetime.date.today().isoformat()
        self.intercept_ms = 0.0
        self.intercept_source = ""
        self.is_read_only = False
        self._overhead_ms: float | None = None
        self._blocks: dict[str, float] = {}
        self._known: dict[BlockShape, float] = {}  # spares the text of a shape
        if self.path is not None and self.path.exists():
            self._read(self.path, other_machine)

    def __len__(self) -> int:
        """Blocks measured so far."""
        return len(self._blocks)

    def block(self, shape: BlockShape) -> float:
        """Latency of a block, ms, measured if it is not known yet."""
        if shape not in self._known:
            self.measure_blocks([shape])
        return self._known[shape]

    def sum_of_blocks(self, arch: Architecture, input_size: int | None = None) -> float:
        """Latency of stem, blocks and head, ms, without the intercept."""
        shapes = [BlockShape(x.spec, x.in_channels, x.in_size) for x in arch.layers(input_size)]
        self.measure_blocks(shapes)
        return math.fsum(self._known[shape] for shape in shapes)

    def latency(self, arch: Architecture, input_size: int | None = None) -> float:
        """Latency of a network, ms, at ``input_size`` px (None: the architecture's own)."""
        return self.intercept_ms + self.sum_of_blocks(arch, input_size)

    def cost(self, space: NetworkSpace) -> SpaceLatency:
        """``choices[K, V] -> float64 Tensor[K]``, ms at the space's input size; for a search.

        Equals :meth:`latency` of each architecture. Block shapes that are not known are measured
        in the call; the others take microseconds. Several processes of one search need equal
        numbers: let one of them :meth:`measure` the space first.
        """
        return SpaceLatency(space, self)

    def measure(self, space: NetworkSpace, progress: bool = True) -> int:
        """Measure all blocks of a space at its input size; return how many were not yet known.

        ``progress``: show a bar on a terminal. Large spaces have tens of thousands of blocks, of
        which a search meets only some: leave those to :meth:`cost`.
        """
        return self.measure_blocks(self.cost(space).shapes(), progress)

    def measure_blocks(self, shapes: Iterable[BlockShape], progress: bool = True) -> int:
        """Measure those of ``shapes`` that are not known; return how many these were.

        The file is written after every 32 of them. Raises UserError if this table is read-only.
        """
        return sum(self.measure_in_chunks(shapes, progress))

    def measure_in_chunks(
        self, shapes: Iterable[BlockShape], progress: bool = True
    ) -> Iterator[int]:
        """As :meth:`measure_blocks`, but says after every write how many blocks it has added."""
        missing = self._missing(shapes)
        if missing and self.is_read_only:
            raise UserError(
                f"Latency table '{self.path}' is of another machine and lacks {len(missing)} "
                f"block(s), such as {next(iter(missing))}. Measure them on that machine "
                f"({_describe(self.machine)}), or make a new table here."
            )
        is_long = len(missing) > _CHUNK
        if is_long:
            logger.info("Measuring the latency of %d blocks ...", len(missing))
        hidden = None if progress and is_long else True  # None: shown on a terminal only
        with tqdm(total=len(missing), desc="latency", unit="block", disable=hidden) as bar:
            names = list(missing)
            for start in range(0, len(names), _CHUNK):
                chunk = names[start : start + _CHUNK]
                self._measure({name: missing[name] for name in chunk})
                bar.update(len(chunk))
                yield len(chunk)

    def calibrate(self, intercept_ms: float, source: str) -> None:
        """Add ``intercept_ms`` to every network from now on.

        ``benchmarks/latency_table.py`` finds it; ``source`` says from which networks and is kept in
        the file.
        """
        self.intercept_ms, self.intercept_source = round(intercept_ms, _DECIMALS), source
        self._write()

    def _missing(self, shapes: Iterable[BlockShape]) -> dict[str, BlockShape]:
        """The unknown ones of ``shapes`` by name, each once; the known ones are remembered."""
        missing = {}
        for shape in shapes:
            if shape in self._known:
                continue
            name = str(shape)
            if name in self._blocks:
                self._known[shape] = self._blocks[name]
            else:
                missing[name] = shape
        return missing

    def _measure(self, shapes: Mapping[str, BlockShape]) -> None:
        if self._overhead_ms is None:
            self._overhead_ms = self.timer.overhead()
        working = {name: shape for name, shape in shapes.items() if not shape.is_identity}
        # Networks are run without their identities: those take no time at all.
        for name in shapes.keys() - working.keys():
            self._blocks[name] = self._known[shapes[name]] = 0.0
        times = self.timer.blocks(list(working.values())) if working else []
        for (name, shape), time in zip(working.items(), times, strict=True):
            own = max(0.0, time - self._overhead_ms)  # noise may exceed the time of a tiny block
            self._blocks[name] = self._known[shape] = round(own, _DECIMALS)
        self._write()

    def _write(self) -> None:
        if self.path is None or self.is_read_only:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with file_lock(str(self.path)):
                # Another run may have added blocks since this one read the file.
                others = _read_table(self.path)["blocks_ms"] if self.path.exists() else {}
                content = {
                    "machine": self.machine,
                    "date": self.date,
                    "overhead_ms": self._overhead_ms,
                    "intercept_ms": self.intercept_ms,
                    "intercept_source": self.intercept_source,
                    "blocks_ms": dict(sorted({**others, **self._blocks}.items())),
                }
                with atomic_write(self.path) as file:
                    file.write(json.dumps(content, indent=1).encode())
        except OSError as error:
            raise UserError(f"Cannot write latency table '{self.path}': {error}.") from None

    def _read(self, path: Path, other_machine: bool) -> None:
        content = _read_table(path)
        if content["machine"] != self.machine:
            if not other_machine:
                raise UserError(
                    f"Latency table '{path}' was measured with {_describe(content['machine'])}; "
                    f"this is {_describe(self.machine)}. Give another file to measure here, or "
                    "set other_machine=True to use it as it is."
                )
            self.is_read_only = True
            self.machine = content["machine"]
        self.date = content["date"]
        self.intercept_ms = content["intercept_ms"]
        self.intercept_source = content["intercept_source"]
        self._overhead_ms = content["overhead_ms"]
        self._blocks = content["blocks_ms"]
        logger.info("Latency table %s: %d blocks, %s", path, len(self), _describe(self.machine))


class SpaceLatency(CostTable):
    """Milliseconds of a space's networks; see :meth:`LatencyTable.cost`."""

    dtype = torch.float64
    is_measured = True

    def __init__(self, space: NetworkSpace, table: LatencyTable) -> None:
        super().__init__(space)
        self._table = table

    def prices(self, shapes: Sequence[BlockShape]) -> list[float]:
        self._table.measure_blocks(shapes)
        return [self._table.block(shape) for shape in shapes]

    @property
    def constant(self) -> float:
        return self._table.intercept_ms


def _read_table(path: Path) -> dict[str, Any]:
    """The file's content, checked. Raises UserError, which names the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        numbers = [content["intercept_ms"], *content["blocks_ms"].values()]
        if content["overhead_ms"] is not None:
            numbers.append(content["overhead_ms"])
        if not all(type(x) in (int, float) and math.isfinite(x) for x in numbers):
            raise ValueError("a time is no finite number")
        if min(content["blocks_ms"].values(), default=0) < 0:
            raise ValueError("a time is negative")
        if not isinstance(content["machine"], dict):
            raise ValueError("'machine' is no mapping")
        for key in ("date", "intercept_source"):
            content[key] = str(content[key])
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"Latency table '{path}' cannot be read: {error}.") from None
    except KeyError as error:
        raise UserError(f"Latency table '{path}' lacks the key {error}.") from None
    return content


def _describe(machine: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in machine.items())
