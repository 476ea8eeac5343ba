"""Search on any space, any evaluator, any cost: its step as ask and tell, and the loop around it.

A step draws architectures, takes their likelihoods and updates alpha. It knows no network:
:func:`search` drives it with a function that rates architectures, a supernet search with validation
batches.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fpnas.errors import CheckpointError, UserError, check_known
from fpnas.search.chain import CostChain, chain_of
from fpnas.search.costs import CostFunction, checked_target, evaluate_cost, folded
from fpnas.search.distribution import (
    DISTRIBUTIONS,
    ArchitectureDistribution,
    FactorizedDistribution,
)
from fpnas.search.estimator import (
    Estimator,
    Sampling,
    check_log_likelihoods,
    default_sampling,
    hinge_cost,
)
from fpnas.search.estimators import get_estimator
from fpnas.search.most_probable import MAX_CANDIDATES, BudgetSolution, most_probable_within
from fpnas.search.result import Candidate, SearchResult
from fpnas.solver.optimizer import restore_optimizer
from fpnas.spaces.space import SearchSpace

_logger = logging.getLogger(__name__)

# evaluate(choices[K, V]) -> log-likelihoods [K]: how well each architecture explains the data.
Evaluate = Callable[[Tensor], Tensor]
# callback(iteration, scalars), after every step.
Callback = Callable[[int, dict[str, float]], None]


class _Draw(NamedTuple):
    """Architectures handed out by ``ask`` that wait for their likelihoods."""

    choices: Tensor  # int64 [K, V]
    hinge: Tensor  # float64 [K]
    scalars: dict[str, float]


class ArchitectureSearcher:
    """Learns P(A | alpha) from the log-likelihoods of the architectures that it asks for.

    Every step is ``choices = searcher.ask()`` and ``searcher.tell(choices, log_likelihoods)``, or
    ``searcher.discard()`` in a warm-up.
    Alpha follows the estimator's loss with Adam at a constant learning rate.

    ``history`` holds these scalars of every step. They describe the distribution that the step's
    samples were drawn from, hence the state before the step's update:

    - ``entropy``: nats, exact.
    - ``num_samples``: architectures K evaluated.
    - ``expected_cost``: mean cost of the K architectures first drawn, before any is redrawn; an
      unbiased estimate of the expected cost under the distribution.
    - ``mode_cost``: cost of the most probable architecture.
    - ``redraws``: architectures drawn in place of some over the target.
    - ``sampled_cost``: mean cost of the K evaluated architectures.
    - ``over_target``: evaluated architectures that are over the target.
    - ``log_likelihood``: mean over the K evaluated architectures.

    Args:
        space: what is searched, for instance ``SearchSpace.from_variables(...)``.
        cost: ``cost(choices[K, V]) -> [K]``, positive, same units as ``target``, cheap to compute.
            None: no cost.
        target: the budget, an upper limit of the returned architecture's cost. None: no limit.
        floor: share of the target, a lower limit of that cost. What costs less counts, for redraws
            and for the penalty, as exceeding the target by what it lacks.
        estimator: "budgeted" (ours), "paper" (equation 7 to the letter) or an
            :class:`~fpnas.search.estimator.Estimator`.
        sampling: number of samples a step. None: :func:`default_sampling`.
        distribution: "joint" or "factorized" (see :meth:`convert_to_joint`).
        beta: coefficient of the cost share in equation 7.
        lr: Adam's constant learning rate for alpha.
        seed: of the sampled architectures.

    Raises UserError on arguments that cannot be used, BudgetError on an unreachable target.
    """

    def __init__(
        self,
        space: SearchSpace,
        cost: CostFunction | None = None,
        target: float | None = None,
        *,
        floor: float = 0.0,
        estimator: str | Estimator = "budgeted",
        sampling: Sampling | None = None,
        distribution: str = "factorized",
        beta: float = 0.3,
        lr: float = 0.016,
        seed: int = 0,
    ) -> None:
        if not 0 <= floor < 1 or (floor and target is None):
            raise UserError(f"A floor is a share of a target, at least 0, below 1; found {floor}.")
        if beta < 0 or lr <= 0:
            raise UserError(f"Needs beta >= 0 and lr > 0, found beta={beta} and lr={lr}.")
        check_known(distribution, DISTRIBUTIONS, f"Unknown distribution '{distribution}'")
        self.space = space
        self.target = checked_target(space, cost, target)
        self.floor = floor
        self.estimator = get_estimator(estimator)
        self.sampling = default_sampling(space) if sampling is None else sampling
        self.beta = beta
        self.lr = lr
        self.history: dict[str, list[float]] = {}
        self.cost = _no_cost if cost is None else cost
        self.generator = torch.Generator().manual_seed(seed)
        self._draw: _Draw | None = None
        self._set_distribution(DISTRIBUTIONS[distribution](space))
        self.estimator.begin(self)
        if floor:
            self.within_budget()  # raises now, not after the search, if the band is empty

    @property
    def band(self) -> tuple[float, float]:
        """The least and the most that an architecture within budget costs."""
        return (self.floor * self.target if self.floor else 0.0), self.target

    @cached_property
    def chain(self) -> CostChain | None:
        """The chain of the cost, if it is a table that takes no measurements."""
        return chain_of(self.cost, self.space)

    @property
    def iteration(self) -> int:
        """Number of finished steps."""
        return len(self.history.get("entropy", ()))

    @torch.no_grad()
    def ask(self, num_samples: int | None = None) -> Tensor:
        """Draw the architectures of the next step, int64 [K, V], to be rated by ``tell``.

        ``num_samples`` overrides the sampling rule, for steps that are not told (a warm-up).
        """
        entropy = float(self.distribution.entropy())
        if num_samples is None:
            num_samples = max(self.estimator.min_samples, self.sampling.num_samples(entropy))
        elif num_samples < 1:
            raise UserError(f"ask() draws at least 1 architecture, found {num_samples}.")
        choices = self.estimator.draw(self, num_samples)
        mode = self.distribution.mode()
        *costs, mode_cost = self.costs(torch.cat([choices, mode[None]]))
        costs = torch.stack(costs)
        scalars = {
            "entropy": entropy,
            "num_samples": num_samples,
            "expected_cost": float(costs.mean()),
            "mode_cost": float(mode_cost),
        }
        scalars["redraws"] = self.estimator.redraw(self, choices, costs)
        scalars["sampled_cost"] = float(costs.mean())
        scalars["over_target"] = int((costs > self.target).sum())
        self._draw = _Draw(choices, hinge_cost(self._folded(costs), self.target), scalars)
        return choices.clone()

    def tell(self, choices: Tensor, log_likelihoods: Tensor) -> dict[str, float]:
        """Update alpha with the log-likelihoods [K] of the architectures that ``ask`` returned.

        Returns the scalars of the step, which are also appended to ``history``. Raises UserError on
        other architectures than those asked for and on NaN or +inf; -inf (a failed evaluation) is
        a likelihood of 0.
        """
        draw = self._draw
        if draw is None or not torch.equal(draw.choices, choices):
            raise UserError("tell() takes exactly the architectures that the last ask() returned.")
        log_likelihoods = check_log_likelihoods(log_likelihoods, draw.choices)
        self.estimator.learn(self, draw.choices, log_likelihoods, draw.hinge)
        self._draw = None
        scalars = {**draw.scalars, "log_likelihood": float(log_likelihoods.mean())}
        self._record(scalars)
        return scalars

    def observe(self, choices: Tensor, log_likelihoods: Tensor) -> None:
        """Learn from the ratings of architectures that another searcher of this space asked for."""
        self.estimator.observe(self, choices, check_log_likelihoods(log_likelihoods, choices))

    def discard(self) -> dict[str, float]:
        """Forget the architectures that ``ask`` returned: a step of a warm-up leaves alpha alone.

        Returns the step's scalars, without ``log_likelihood``; they do not enter ``history``.
        """
        if self._draw is None:
            raise UserError("discard() follows an ask().")
        scalars = self._draw.scalars
        self._draw = None
        return scalars

    def follow(self, loss: Tensor) -> None:
        """One step of Adam that lowers ``loss`` by moving alpha."""
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

    def costs(self, choices: Tensor) -> Tensor:
        """The cost of each architecture, float64 [K]; 0 without a cost function."""
        return evaluate_cost(self.cost, choices)

    def outside_budget(self, costs: Tensor) -> Tensor:
        """Which of ``costs`` [K] exceed the target or miss the floor, bool [K]."""
        return self._folded(costs) > self.target

    def convert_to_joint(self) -> None:
        """From the factorised to the joint distribution; P and H stay, the optimizer starts afresh.

        A joint distribution stays as it is.
        """
        if isinstance(self.distribution, FactorizedDistribution):
            self._set_distribution(self.distribution.to_joint())

    def within_budget(self) -> BudgetSolution:
        """The most probable architecture within budget. Raises BudgetError if there is none."""
        return self.estimator.best(self, MAX_CANDIDATES)

    def favourite(self) -> Tensor:
        """What the distribution prefers now, int64 [V]: the mode.

        Where alpha does not follow the cost, it is the most probable architecture within budget.
        """
        if self.estimator.learns_budget:
            return self.distribution.mode()
        return self.within_budget().choices

    def most_probable(
        self, distribution: ArchitectureDistribution, max_candidates: int
    ) -> BudgetSolution:
        """As :meth:`within_budget`, under any ``distribution`` over the space."""
        floor, target = self.band
        return most_probable_within(distribution, self.cost, target, max_candidates, floor)

    def result(self, top_m: int = 5) -> SearchResult:
        """What was found so far, with the ``top_m`` most probable architectures and their costs."""
        choices, log_probs = self.distribution.top(top_m)
        costs = self.costs(choices)
        solution = self.within_budget()
        if costs[0] > self.target and self.estimator.learns_budget:
            _logger.warning(
                "The most probable architecture costs %.6g, over the target %.6g. Returned is %s "
                "within budget: cost %.6g, log-probability %.3f against %.3f.",
                costs[0],
                self.target,
                "the most probable one" if solution.proven else "a probable one",
                solution.cost,
                solution.log_prob,
                log_probs[0],
            )
        return SearchResult(
            choices=solution.choices,
            cost=solution.cost,
            target=self.target,
            log_prob=solution.log_prob,
            proven=solution.proven,
            log_prob_bound=solution.log_prob_bound,
            candidates=tuple(
                Candidate(c, float(p), float(v))
                for c, p, v in zip(choices, log_probs, costs, strict=True)
            ),
            # Not the space, whose tables of costs may be large.
            distribution=copy.deepcopy(self.distribution, {id(self.space): self.space}),
            history=copy.deepcopy(self.history),
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes during a search, as tensors and plain Python values."""
        return {
            "cardinalities": list(self.space.cardinalities),
            "distribution": self.distribution.name,
            "logits": self.distribution.logits.detach().clone(),
            "optimizer": copy.deepcopy(self._optimizer.state_dict()),
            "generator": self.generator.get_state(),
            "estimator": copy.deepcopy(self.estimator.state_dict()),
            "history": copy.deepcopy(self.history),
            "draw": None if self._draw is None else copy.deepcopy(self._draw._asdict()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue bit for bit where ``state`` was taken.

        Raises CheckpointError on the state of another space.
        """
        if state["cardinalities"] != list(self.space.cardinalities):
            raise CheckpointError(
                f"The search state belongs to a space with {len(state['cardinalities'])} variables "
                f"of {state['cardinalities']} values; space '{self.space.name}' has "
                f"{list(self.space.cardinalities)}."
            )
        self._set_distribution(DISTRIBUTIONS[state["distribution"]](self.space))
        with torch.no_grad():
            self.distribution.logits.copy_(state["logits"])
        restore_optimizer(self._optimizer, state["optimizer"])
        self.generator.set_state(state["generator"])
        # Absent from what was saved when no estimator had anything to remember.
        self.estimator.load_state_dict(copy.deepcopy(state.get("estimator", {})))
        self.history = copy.deepcopy(state["history"])
        self._draw = None if state["draw"] is None else _Draw(**state["draw"])

    def _set_distribution(self, distribution: ArchitectureDistribution) -> None:
        self.distribution = distribution
        self._optimizer = torch.optim.Adam(distribution.parameters(), lr=self.lr)

    def _record(self, scalars: dict[str, float]) -> None:
        for name, value in scalars.items():
            self.history.setdefault(name, []).append(value)

    def _folded(self, costs: Tensor) -> Tensor:
        return folded(costs, self.target, self.band[0]) if self.floor else costs


def _no_cost(choices: Tensor) -> Tensor:
    return torch.zeros(len(choices))


def search(
    space: SearchSpace,
    evaluate: Evaluate,
    cost: CostFunction | None = None,
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
