"""Benchmarks whose architectures are trained already: the contract, and tables of all of them.

To add a benchmark, write one adapter. For a table with every architecture of a space that is a
function ``load(path) -> Table`` such as :func:`nas_bench_macro`; for anything else (a surrogate, a
simulator) a subclass of :class:`TabularBenchmark`, returned by such a function.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from fpnas.errors import DataError
from fpnas.spaces.space import SearchSpace


class TabularBenchmark(ABC):
    """The adapter's contract: a space with a cost, a true accuracy and noisy measurements of it.

    ``choices`` is int64 [K, V]; accuracies are float64 [K] in percent; the cost is positive, in any
    unit.
    """

    space: SearchSpace

    @abstractmethod
    def cost(self, choices: Tensor) -> Tensor:
        """What the budget limits, [K]."""

    @abstractmethod
    def accuracy(self, choices: Tensor) -> Tensor:
        """True accuracy, by which results are judged; no search sees it."""

    @abstractmethod
    def reference(self) -> Tensor:
        """Architectures [N, V] that define percentiles of cost, ranks, and the best accuracy.

        All of the space where that is possible, otherwise a large sample of it.
        """

    def measure(self, choices: Tensor, generator: torch.Generator) -> Tensor:
        """Accuracy in one training, as a search sees it. The true one unless overridden."""
        return self.accuracy(choices)

    def describe(self) -> str:
        """A line that is printed before the searches: the space, the quality of a surrogate."""
        return repr(self.space)

    def evaluator(
        self, generator: torch.Generator, likelihood_scale: float, noise: float = 0.0
    ) -> LikelihoodOfError:
        """``evaluate`` for a search: log-likelihood = -likelihood_scale * measured error.

        Args:
            generator: of the measurements.
            likelihood_scale: factor of the error, which is a share in [0, 1].
            noise: standard deviation of gaussian noise on the error, on top of ``measure``'s.
        """
        return LikelihoodOfError(self, generator, likelihood_scale, noise)


class LikelihoodOfError:
    """Rates architectures by exp(-likelihood_scale * error), the error measured with noise."""

    def __init__(
        self,
        benchmark: TabularBenchmark,
        generator: torch.Generator,
        likelihood_scale: float,
        noise: float,
    ) -> None:
        self._benchmark = benchmark
        self._generator = generator
        self._scale = likelihood_scale
        self._noise = noise

    def __call__(self, choices: Tensor) -> Tensor:
        error = 1 - self._benchmark.measure(choices, self._generator).double() / 100
        gaussian = torch.randn(len(choices), generator=self._generator, dtype=torch.float64)
        return -self._scale * (error + self._noise * gaussian)


class Table(TabularBenchmark):
    """A benchmark that lists every architecture of its space.

    Args:
        space: the space.
        choices: int64 [N, V], every architecture once, in any order.
        accuracies: [N, S], percent, of S trainings; a measurement is one of them at random, the
            true accuracy is their mean.
        costs: [N], positive.

    Raises DataError when architectures are missing, repeated or unlike the space.
    """

    def __init__(
        self, space: SearchSpace, choices: Tensor, accuracies: Tensor, costs: Tensor
    ) -> None:
        self.space = space
        space.check(choices)
        cardinalities = space.cardinalities
        self._strides = torch.tensor(
            [math.prod(cardinalities[i + 1 :]) for i in range(len(cardinalities))]
        )
        rows = (choices * self._strides).sum(dim=1)
        order = rows.argsort()
        if not torch.equal(rows[order], torch.arange(space.num_architectures)):
            raise DataError(
                f"The table has {len(choices)} rows, {len(rows.unique())} of them distinct; it "
                f"must list each of the {space.num_architectures} architectures of '{space.name}' "
                "once."
            )
        if accuracies.dim() != 2 or not len(accuracies) == len(costs) == len(choices):
            raise DataError(
                f"Accuracies [N, S] and costs [N] must match {len(choices)} rows of choices, found "
                f"shapes {tuple(accuracies.shape)} and {tuple(costs.shape)}."
            )
        self._choices = choices[order]
        self._accuracies = accuracies.double()[order]
        self._costs = costs.double()[order]

    def cost(self, choices: Tensor) -> Tensor:
        return self._costs[self._rows(choices)]

    def accuracy(self, choices: Tensor) -> Tensor:
        return self._accuracies[self._rows(choices)].mean(dim=1)

    def reference(self) -> Tensor:
        return self._choices

    def measure(self, choices: Tensor, generator: torch.Generator) -> Tensor:
        training = torch.randint(self._accuracies.shape[1], (len(choices),), generator=generator)
        return self._accuracies[self._rows(choices), training]

    def _rows(self, choices: Tensor) -> Tensor:
        return (choices * self._strides).sum(dim=1)


def nas_bench_macro(path: str) -> Table:
    """NAS-Bench-Macro [Su et al. 2021], CIFAR-10: 8 layers of {identity, k3 e3, k5 e6}.

    ``path`` is the published JSON file: architecture code such as "02110022" to ``test_acc`` (three
    trainings, percent) and ``flops``, the cost. Raises DataError.
    """
    layer = [["identity", "k3_e3", "k5_e6"]]
    space = SearchSpace.from_variables("NAS-Bench-Macro", [layer] * 8)
    codes = ["".join(code) for code in product("012", repeat=8)]
    try:
        entries = json.loads(Path(path).read_text())
        accuracies = [entries[code]["test_acc"] for code in codes]
        costs = [entries[code]["flops"] for code in codes]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}.") from None
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} is not the JSON file of NAS-Bench-Macro: {error!r}.") from None
    choices = torch.tensor([[int(digit) for digit in code] for code in codes])
    return Table(space, choices, torch.tensor(accuracies), torch.tensor(costs))
