"""How many architectures to draw in a step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from fpnas.errors import UserError

# lambda * H is often meant to be an integer, as at the uniform distribution, and comes out a few
# rounding errors below it; those must not cost a whole sample.
_ROUNDING = 1e-9


class Sampling(Protocol):
    """A rule for the number of samples."""

    def num_samples(self, entropy: float | Tensor) -> int:
        """Number of architectures to draw when the distribution has this entropy (nats)."""


@dataclass(frozen=True)
class FixedSampling:
    """The same number of samples in every step, as in PARSEC. Raises UserError below 1."""

    samples: int

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UserError(f"FixedSampling draws at least 1 architecture, found {self.samples}.")

    def num_samples(self, entropy: float | Tensor) -> int:
        """The fixed number, whatever the entropy."""
        return self.samples


@dataclass(frozen=True)
class AdaptiveSampling:
    """K = max(minimum, floor(lambda * H)), equation 4, with the entropy H in nats.

    Raises UserError unless ``lambda_ > 0`` and ``minimum >= 1``.
    """

    lambda_: float
    minimum: int = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lambda_) and self.lambda_ > 0):
            raise UserError(f"AdaptiveSampling needs a positive lambda_, found {self.lambda_}.")
        if self.minimum < 1:
            raise UserError(
                f"AdaptiveSampling needs a minimum of at least 1, found {self.minimum}."
            )

    @classmethod
    def starting_at(cls, samples: int, num_architectures: int) -> AdaptiveSampling:
        """The rule that draws ``samples`` from the uniform distribution over so large a space."""
        return cls(samples / math.log(max(num_architectures, 2)))

    def num_samples(self, entropy: float | Tensor) -> int:
        """max(minimum, floor(lambda * entropy))."""
        return max(self.minimum, math.floor(self.lambda_ * float(entropy) + _ROUNDING))
