"""What a run left in its folder, read back: its files and its metrics."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fpnas.archs import Architecture
from fpnas.errors import ConfigError, UserError
from fpnas.report.html import folded


def read_architecture(output_dir: Path) -> Architecture | None:
    """The architecture.yaml of a run; None if it has none. Raises ConfigError on a damaged one."""
    path = output_dir / "architecture.yaml"
    return Architecture.load(path) if path.is_file() else None


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML file of keys and values; empty if there is no such file.

    Raises ConfigError, which names the file, if it holds anything else.
    """
    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not plain YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is no mapping of keys to values.")
    return content


def folded_files(output_dir: Path, *names: str) -> str:
    """The texts of those of the files that are there, folded."""
    paths = [output_dir / name for name in names]
    return "".join(
        folded(path.name, path.read_text(encoding="utf-8")) for path in paths if path.is_file()
    )


@dataclass(frozen=True)
class Series:
    """A scalar over the iterations at which it was recorded as a finite number.

    Attributes:
        iterations: int64 [n], ascending.
        values: float64 [n].
    """

    iterations: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.iterations)

    def scaled(self, divisor: float) -> Series:
        """The values in another unit."""
        return Series(self.iterations, self.values / divisor)


@dataclass(frozen=True)
class Metrics:
    """The columns of a metrics.json."""

    columns: dict[str, Series]

    @classmethod
    def read(cls, path: str | Path) -> Metrics:
        """Read a file. A last line that is only half written is left out, and so are nulls.

        Raises UserError if there is no such file or a line before the last is no record.
        """
        try:
            lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise UserError(f"Metrics file '{path}' cannot be read: {error.strerror}.") from None
        points: dict[str, dict[int, float]] = {}
        for i, line in enumerate(lines, start=1):
            record = _parse(line)
            if record is None:
                if i == len(lines) or not line.strip():
                    continue
                raise UserError(
                    f"Metrics file '{path}', line {i}: expected a JSON object with a number as "
                    f"'iteration', found {line[:60]!r}."
                )
            iteration = int(record.pop("iteration"))
            for name, value in record.items():
                if _is_number(value) and np.isfinite(value):
                    # A resumed run may record an iteration again; the later line counts.
                    points.setdefault(name, {})[iteration] = float(value)
        return cls({name: _series(column) for name, column in points.items()})

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def series(self, name: str) -> Series:
        """The column ``name``, without any point if it was never recorded."""
        return self.columns.get(name, _series({}))

    @property
    def num_iterations(self) -> int:
        """Steps up to the last one on record."""
        lasts = [int(series.iterations[-1]) for series in self.columns.values()]
        return max(lasts) + 1 if lasts else 0

    @property
    def seconds(self) -> float:
        """Duration of all steps.

        A record's "time" stands for the steps since the record before it, too.
        """
        time = self.series("time")
        return float((np.diff(time.iterations, prepend=-1) * time.values).sum())


def _parse(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    return record if isinstance(record, dict) and _is_number(record.get("iteration")) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _series(points: dict[int, float]) -> Series:
    iterations = sorted(points)
    return Series(
        np.array(iterations, dtype=np.int64),
        np.array([points[i] for i in iterations], dtype=np.float64),
    )
