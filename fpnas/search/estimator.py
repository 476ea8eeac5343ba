"""The two gradient estimators: the paper's, and ours that keeps to the budget while it samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fpnas.errors import UserError, check_known


@dataclass(frozen=True)
class Estimator:
    """What happens to the samples of a step before and after they are evaluated.

    Attributes:
        name: as in ``SEARCH.ESTIMATOR``.
        min_samples: samples a step at least, whatever the sampling rule says.
        max_redraws: rounds in which samples over the target are drawn again before anything is
            evaluated (their cost is free to compute). What is still over it is kept, and pays the
            hinge penalty.
        baseline: subtract the mean of the importance weights.
    """

    name: str
    min_samples: int = 1
    max_redraws: int = 0
    baseline: bool = False

    def __post_init__(self) -> None:
        if self.min_samples < 1 or self.max_redraws < 0:
            raise UserError(
                f"Estimator '{self.name}' needs min_samples >= 1 and max_redraws >= 0, found "
                f"{self.min_samples} and {self.max_redraws}."
            )


ESTIMATORS: Mapping[str, Estimator] = MappingProxyType(
    {
        # Equation 7 to the letter.
        "paper": Estimator("paper"),
        # With one sample its likelihood share is 1 whatever its likelihood, hence at least 2.
        "budgeted": Estimator("budgeted", min_samples=2, max_redraws=20, baseline=True),
    }
)


def get_estimator(estimator: str | Estimator) -> Estimator:
    """The estimator of this name, or the given one. Raises UnknownNameError."""
    if isinstance(estimator, Estimator):
        return estimator
    check_known(estimator, ESTIMATORS, f"Unknown estimator '{estimator}'")
    return ESTIMATORS[estimator]
