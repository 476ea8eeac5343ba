"""Accel-NASBench [Ahmad et al. 2023] as a benchmark of ``tabular_search.py``.

5,138 networks of the MnasNet space were trained on ImageNet (short proxy trainings). The others
are predicted: accuracy by gradient-boosted trees, multiply-adds by a sum over the blocks, which is
exact.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tabular import TabularBenchmark
from torch import Tensor

from fpnas.errors import DataError, UserError
from fpnas.search.costs import neighbours
from fpnas.spaces.space import SearchSpace, SearchVariable, VariableGroup

BLOCKS = 7
FIELDS = ("e", "k", "l", "se")  # expansion, kernel, layers, Squeeze-Excite
UNIFORM_REFERENCE = 20_000
TRADE_OFFS = 60


def load(path: str) -> AccelNASBench:
    """Read the folder of JSON files, or the .tar.gz of it, and fit. Raises DataError."""
    try:
        entries = [json.loads(text) for text in _json_texts(Path(path))]
        rows = [
            [entry["architecture"][f"block{b}_{field}"] for b in range(BLOCKS) for field in FIELDS]
            for entry in entries
        ]
        accuracies = np.array([entry["metrics"]["val_top1"] for entry in entries])
        macs = np.array([entry["model_info"]["macs"] for entry in entries])
    except OSError as error:
        raise DataError(f"{path}: {error}") from None
    except (tarfile.TarError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} does not hold Accel-NASBench's results: {error!r}.") from None
    if not rows:
        raise DataError(f"{path} holds no JSON files.")
    return AccelNASBench(np.array(rows, dtype=np.int64), accuracies, macs)


class AccelNASBench(TabularBenchmark):
    """Surrogates fitted to trained networks.

    Args:
        rows: int64 [N, 28], the value of every variable.
        accuracies: [N], ImageNet top-1, percent.
        macs: [N], millions.
    """

    def __init__(self, rows: np.ndarray, accuracies: np.ndarray, macs: np.ndarray) -> None:
        values = [np.unique(column) for column in rows.T]
        groups = []
        for b in range(BLOCKS):
            named = zip(FIELDS, values[4 * b : 4 * b + 4], strict=True)
            variables = tuple(SearchVariable(field, tuple(v.tolist())) for field, v in named)
            groups.append(VariableGroup(f"block{b}", variables))
        self.space = SearchSpace("Accel-NASBench", groups)
        columns = [np.searchsorted(v, column) for v, column in zip(values, rows.T, strict=True)]
        choices = torch.from_numpy(np.stack(columns, axis=1))
        self._accuracy, self._held_out_r2 = _fit_accuracy(choices, accuracies)
        self._macs, self._macs_error = _fit_macs(self.space, choices, macs)
        self._trained = choices

    def describe(self) -> str:
        return (
            f"{self.space!r}; accuracy surrogate: R2 {self._held_out_r2:.4f} on held-out networks "
            f"(5-fold); largest error of the multiply-adds: {self._macs_error:.2g} M"
        )

    def cost(self, choices: Tensor) -> Tensor:
        """Millions of multiply-adds."""
        macs = torch.zeros(len(choices), dtype=torch.float64)
        for columns, table in zip(self.space.group_columns, self._macs, strict=True):
            macs += table[tuple(choices[:, columns].t())]
        return macs

    def accuracy(self, choices: Tensor) -> Tensor:
        return torch.from_numpy(self._accuracy.predict(choices.numpy().astype(np.float64)))

    def reference(self) -> Tensor:
        """Uniform draws, and the optima of many trade-offs between accuracy and cost.

        The best of them is close to the best of the space; a search that finds a still better one
        has a negative regret.
        """
        generator = torch.Generator().manual_seed(0)
        optima = self._trade_off_optima()
        return torch.cat([self.space.sample(UNIFORM_REFERENCE, generator), optima])

    def _trade_off_optima(self) -> Tensor:
        """All points of coordinate ascents on accuracy - price * cost, the price falling."""
        current = self._trained[0]
        visited = [current]
        for price in np.geomspace(1.0, 1e-3, TRADE_OFFS):
            best = -np.inf
            while True:
                around = neighbours(current, self.space.cardinalities)
                scores = self.accuracy(around) - price * self.cost(around)
                k = int(scores.argmax())
                if not float(scores[k]) > best:
                    break
                best, current = float(scores[k]), around[k]
                visited.append(current)
        return torch.stack(visited).unique(dim=0)


def _fit_accuracy(choices: Tensor, accuracies: np.ndarray):  # -> (regressor, held-out R2)
    try:
        from sklearn.ensemble import HistGradientBoostingRegressor
        from sklearn.model_selection import KFold, cross_val_score
    except ImportError:
        raise UserError("Accel-NASBench needs scikit-learn: pip install scikit-learn.") from None
    model = HistGradientBoostingRegressor(
        max_iter=500, learning_rate=0.05, max_leaf_nodes=8, random_state=0
    )
    features = choices.numpy().astype(np.float64)
    folds = KFold(5, shuffle=True, random_state=0)
    scores = cross_val_score(model, features, accuracies, cv=folds, scoring="r2")
    return model.fit(features, accuracies), float(scores.mean())


def _fit_macs(space: SearchSpace, choices: Tensor, macs: np.ndarray) -> tuple[list[Tensor], float]:
    """Multiply-adds of every combination of every block, and the largest error of their sum.

    The channels of the space are fixed, so that each block's cost is its own. The published data
    hold every combination of every block; raises DataError if one is missing.
    """
    shapes = [tuple(v.cardinality for v in group.variables) for group in space.groups]
    flat = [
        np.ravel_multi_index(choices[:, columns].t().numpy(), shape)
        for columns, shape in zip(space.group_columns, shapes, strict=True)
    ]
    sizes = [int(np.prod(shape)) for shape in shapes]
    missing = sum(n - len(np.unique(i)) for n, i in zip(sizes, flat, strict=True))
    if missing:
        raise DataError(
            f"Accel-NASBench's results lack {missing} combinations of a block's values."
        )
    design = np.concatenate([np.eye(n)[i] for n, i in zip(sizes, flat, strict=True)], axis=1)
    solution, *_ = np.linalg.lstsq(design, macs, rcond=None)
    error = float(np.abs(design @ solution - macs).max())
    parts = np.split(solution, np.cumsum(sizes)[:-1])
    return [torch.from_numpy(p).reshape(s) for p, s in zip(parts, shapes, strict=True)], error


def _json_texts(path: Path) -> Iterator[bytes]:
    if path.is_dir():
        for file in sorted(path.rglob("*.json")):
            yield file.read_bytes()
        return
    with tarfile.open(path) as archive:
        members = [m for m in archive if m.isfile() and m.name.endswith(".json")]
        for member in sorted(members, key=lambda m: m.name):
            yield archive.extractfile(member).read()
