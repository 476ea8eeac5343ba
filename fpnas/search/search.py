"""Search as a library function: any space, any evaluator, any cost."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fpnas.errors import UserError
from fpnas.search.budget import Cost
from fpnas.search.estimator import Estimator
from fpnas.search.result import SearchResult
from fpnas.search.sampling import Sampling
from fpnas.search.searcher import ArchitectureSearcher
from fpnas.spaces.space import SearchSpace

# evaluate(choices[K, V]) -> log-likelihoods [K]: how well each architecture explains the data.
Evaluate = Callable[[Tensor], Tensor]
# callback(iteration, scalars), after every step.
Callback = Callable[[int, dict[str, float]], None]


def search(
    space: SearchSpace,
    evaluate: Evaluate,
    cost: Cost | None = None,
    target: float | None = None,
    *,
    estimator: str | Estimator = "budgeted",
    sampling: Sampling | None = None,
    iterations: int = 1000,
    seed: int = 0,
    distribution: str = "mixed",
    joint_iteration: int | None = None,
    likelihood_scale: float = 1.0,
    beta: float = 0.3,
    lr: float = 0.016,
    callback: Callback | None = None,
) -> SearchResult:
    """Learn a distribution over the architectures of ``space``; return the best within budget.

    Args:
        space: what is searched, for instance ``SearchSpace.from_variables(...)``.
        evaluate: ``evaluate(choices[K, V]) -> log-likelihoods[K]``. Called once a step with a few
            architectures; may be noisy. Only differences within a call matter.
        cost: ``cost(choices[K, V]) -> [K]``, positive and cheap to compute. None: no cost.
        target: the returned architecture's cost is at most this. None: no limit.
        estimator: "budgeted" (ours) or "paper" (equation 7 to the letter).
        sampling: number of architectures a step. None: lambda = 1/4 as in the paper, or more where
            that would start with fewer than 14.
        iterations: steps of alpha.
        seed: of the sampled architectures. ``evaluate`` has its own randomness.
        distribution: "joint", "factorized", or "mixed": factorised first, then joint.
        joint_iteration: for "mixed", the number of factorised steps. None: a quarter of all.
        likelihood_scale: factor of the log-likelihoods. The larger, the sharper the likelihood
            shares; "paper" is sensitive to it, "budgeted" hardly.
        beta: coefficient of the cost share in equation 7.
        lr: Adam's constant learning rate for alpha.
        callback: ``callback(iteration, scalars)`` after every step, for progress and logs.

    Raises UserError on arguments that cannot be used, BudgetError on an unreachable target.
    """
    if iterations < 1:
        raise UserError(f"A search needs at least 1 iteration, found {iterations}.")
    if not likelihood_scale > 0:
        raise UserError(f"likelihood_scale must be positive, found {likelihood_scale}.")
    mixed = distribution == "mixed"
    if joint_iteration is not None and not mixed:
        raise UserError(f"joint_iteration belongs to distribution='mixed', found '{distribution}'.")
    searcher = ArchitectureSearcher(
        space,
        cost,
        target,
        estimator=estimator,
        sampling=sampling,
        distribution="factorized" if mixed else distribution,
        beta=beta,
        lr=lr,
        seed=seed,
    )
    switch = iterations // 4 if joint_iteration is None else joint_iteration
    for iteration in range(iterations):
        if mixed and iteration == switch:
            searcher.convert_to_joint()
        choices = searcher.ask()
        log_likelihoods = torch.as_tensor(evaluate(choices)) * likelihood_scale
        scalars = searcher.tell(choices, log_likelihoods)
        if callback is not None:
            callback(iteration, scalars)
    return searcher.result()
