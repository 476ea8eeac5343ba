"""P(A | alpha): the distribution over architectures that a search learns.

Both distributions of the paper are products of independent categoricals. They differ only in which
variables share one categorical: all those of a group (joint, JD) or none (factorised, FD).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import ClassVar

import torch
from torch import Tensor, nn

from fpnas.errors import UserError
from fpnas.spaces.space import SearchSpace

# (list, position) of each term that is not the first of its list.
Deviations = tuple[tuple[int, int], ...]


class ArchitectureDistribution(nn.Module):
    """Independent categoricals, the *factors*, each over the combinations of some variables.

    The logits are the architecture parameters alpha: one float64 parameter [F, C] with a row for
    each factor, padded to the largest number C of combinations. The initial distribution is
    uniform (zeros). Padding has probability 0 and receives gradient 0.

    Choices are int64 [K, V] as in :class:`~fpnas.spaces.space.SearchSpace`; *indices* int64 [K, F]
    name the same architectures by one combination for each factor (the last variable of a factor
    varies fastest).

    Args:
        space: what is searched.
        factors: a partition of the columns of ``choices``; each part is one categorical.

    Attributes:
        name: of a kind of distribution, in DISTRIBUTIONS and in files.
    """

    name: ClassVar[str]

    def __init__(self, space: SearchSpace, factors: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.space = space
        cardinalities = torch.tensor(space.cardinalities)
        strides = torch.ones_like(cardinalities)
        factor_of = torch.empty_like(cardinalities)
        sizes = []
        for f, columns in enumerate(factors):
            size = 1
            for column in reversed(columns):
                strides[column], factor_of[column] = size, f
                size *= space.cardinalities[column]
            sizes.append(size)
        self.factors = tuple(map(tuple, factors))
        self.factor_sizes = tuple(sizes)

        valid = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]
        self.logits = nn.Parameter(torch.zeros(valid.shape, dtype=torch.float64))
        padding = torch.zeros_like(self.logits).masked_fill(~valid, -math.inf)
        for name, constant in {
            "_padding": padding,
            "_padded": ~valid,
            "_last": torch.tensor(sizes)[:, None] - 1,
            "_strides": strides,
            "_factor_of": factor_of,
            "_cardinalities": cardinalities,
        }.items():
            self.register_buffer(name, constant, persistent=False)

    def factor_log_probs(self) -> Tensor:
        """Log-probability of every combination of every factor, [F, C]; -inf in the padding."""
        return torch.log_softmax(self.logits + self._padding, dim=1)

    def indices_of(self, choices: Tensor) -> Tensor:
        """Choices [K, V] as indices [K, F]."""
        indices = choices.new_zeros(len(choices), len(self.factor_sizes))
        return indices.index_add_(1, self._factor_of, choices * self._strides)

    def choices_of(self, indices: Tensor) -> Tensor:
        """Indices [K, F] as choices [K, V]."""
        return indices[:, self._factor_of] // self._strides % self._cardinalities

    def log_prob(self, choices: Tensor) -> Tensor:
        """log P(A_k | alpha) of choices [K, V]: float64 [K], differentiable."""
        log_probs = self.factor_log_probs()
        return log_probs.t().gather(0, self.indices_of(choices)).sum(dim=1)

    @torch.no_grad()
    def entropy(self) -> Tensor:
        """H(P(A | alpha)) in nats, exact: a float64 scalar, without gradient."""
        log_probs = self.factor_log_probs()
        return -(log_probs.exp() * log_probs.masked_fill(self._padded, 0.0)).sum()

    @torch.no_grad()
    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw int64 [num_samples, V]."""
        # Inversion, since torch.multinomial may draw a zero-probability last category.
        cumulative = self.factor_log_probs().exp().cumsum(dim=1)
        uniform = torch.rand(
            len(self.factor_sizes), num_samples, dtype=torch.float64, generator=generator
        )
        indices = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
        return self.choices_of(torch.minimum(indices, self._last).t())

    @torch.no_grad()
    def mode(self) -> Tensor:
        """The most probable architecture, int64 [V]."""
        return self.choices_of((self.logits + self._padding).argmax(dim=1)[None])[0]

    def top(self, m: int) -> tuple[Tensor, Tensor]:
        """The ``m`` most probable architectures (all, if there are fewer), most probable first.

        Returns int64 [m, V] and their float64 log-probabilities [m]. Exact.
        """
        if m < 1:
            raise UserError(f"top(m) needs m >= 1, found {m}.")
        return next(self.descending(batch_size=m))

    def descending(self, batch_size: int = 256) -> Iterator[tuple[Tensor, Tensor]]:
        """All architectures in descending order of probability, lazily and without repetition.

        Yields batches of choices, int64 [B, V], and log-probabilities, float64 [B]; only the last
        batch may be smaller than ``batch_size``. The cost grows as n log n with the number n of
        architectures taken, not with the size of the space.
        """
        with torch.no_grad():
            ranked, order = self.factor_log_probs().sort(dim=1, descending=True, stable=True)
        lists = [row[:n] for row, n in zip(ranked.tolist(), self.factor_sizes, strict=True)]
        sums = descending_sums(lists)
        while batch := list(islice(sums, batch_size)):
            totals, deviations = zip(*batch, strict=True)
            moves = [(k, f, rank) for k, moved in enumerate(deviations) for f, rank in moved]
            indices = order[:, 0].repeat(len(batch), 1)
            if moves:
                k, f, rank = torch.tensor(moves).unbind(dim=1)
                indices[k, f] = order[f, rank]
            yield self.choices_of(indices), torch.tensor(totals, dtype=torch.float64)


class JointDistribution(ArchitectureDistribution):
    """JD: for each group one categorical over all combinations of its variables."""

    name = "joint"

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space, space.group_columns)


class FactorizedDistribution(ArchitectureDistribution):
    """FD: one categorical for each variable (equation 5)."""

    name = "factorized"

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space, [(column,) for column in range(len(space.variables))])

    @torch.no_grad()
    def to_joint(self) -> JointDistribution:
        """The same distribution in joint form: every probability and the entropy are kept.

        A joint logit is the sum of the log-probabilities of its factors.
        """
        joint = JointDistribution(self.space)
        log_probs = self.factor_log_probs()
        combinations = torch.arange(joint.logits.shape[1])[:, None]
        for g, columns in enumerate(self.space.group_columns):
            columns = torch.tensor(columns)
            values = combinations // joint._strides[columns] % self._cardinalities[columns]
            logits = log_probs[columns, values].sum(dim=1)
            joint.logits[g] = logits.masked_fill(joint._padded[g], 0.0)
        return joint


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


DISTRIBUTIONS = {kind.name: kind for kind in (JointDistribution, FactorizedDistribution)}
# SEARCH.DISTRIBUTION -> the distribution of the first steps
FIRST_DISTRIBUTION = {"joint": "joint", "factorized": "factorized", "mixed": "factorized"}
