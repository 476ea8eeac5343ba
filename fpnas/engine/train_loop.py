"""The loop of every long run: steps, with hooks around them.

It knows neither networks nor data nor searches. A subclass says what a step is; hooks do what is
done beside the steps: schedules, evaluation, logging, checkpoints.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fpnas.utils import comm
from fpnas.utils.events import EventStorage
from fpnas.utils.rng import rng_state, set_rng_state

logger = logging.getLogger(__name__)


class HookBase:
    """Something done at fixed points of the loop of :meth:`TrainerBase.train`.

    A hook that evaluates, saves or writes does so in ``after_step``. Hooks run in the order in
    which they were registered. In a run of several processes they run in all of them.

    Attributes:
        trainer: the trainer that the hook is registered with.
    """

    trainer: TrainerBase

    def before_train(self) -> None:
        """Called once, before the first step."""

    def after_train(self) -> None:
        """Called once, after the last step, also after an error (even one in ``before_train``)."""

    def before_step(self) -> None:
        """Called before every step."""

    def after_step(self) -> None:
        """Called after every step."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know: tensors and plain Python values. Empty: nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of :meth:`state_dict`. Only called if that was not empty."""


class TrainerBase:
    """Runs steps ``start_iter`` to ``max_iter - 1``, with hooks around each.

    Subclasses implement :meth:`run_step`, and extend :meth:`state_dict` and
    :meth:`load_state_dict` by what they own, so that a resumed run ends with the same bits.

    Attributes:
        iter: the current iteration, from 0. After the last step it equals ``max_iter``.
        steps_done: finished steps; in ``after_step`` that is ``iter + 1``. A restored trainer goes
            on with ``train(trainer.steps_done, max_iter)``.
        start_iter, max_iter: the arguments of :meth:`train`.
        storage: the scalars of the run.
    """

    def __init__(self) -> None:
        self.iter = 0
        self.steps_done = 0
        self.start_iter = 0
        self.max_iter = 0
        self.storage = EventStorage()
        self._hooks: list[HookBase] = []
        self._restored_rng: list[dict[str, Any]] | None = None

    @property
    def progress(self) -> float:
        """Of the current step, in [0, 1): where a schedule of the learning rate is."""
        return self.iter / self.max_iter

    def register_hooks(self, hooks: Sequence[HookBase]) -> None:
        """Append hooks. Those with a state must be there before a checkpoint is loaded."""
        for hook in hooks:
            hook.trainer = self
            self._hooks.append(hook)

    def run_step(self) -> None:
        """One step. Puts its scalars into ``self.storage``."""
        raise NotImplementedError

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run the steps from ``start_iter`` up to, not including, ``max_iter``."""
        logger.info("Starting at iteration %d of %d", start_iter, max_iter)
        self.iter = self.steps_done = self.start_iter = start_iter
        self.storage.iter = start_iter
        self.max_iter = max_iter
        try:
            self.before_train()
            for self.iter in range(start_iter, max_iter):
                self.before_step()
                self.run_step()
                self.after_step()
            self.iter = self.steps_done
        finally:
            self.after_train()

    def before_train(self) -> None:
        """Call the hooks, then set the random generators as they were when the state was saved."""
        for hook in self._hooks:
            hook.before_train()
        if self._restored_rng is not None:
            set_rng_state(self._restored_rng[comm.get_rank() % len(self._restored_rng)])
            self._restored_rng = None

    def before_step(self) -> None:
        """Bring the storage to the current iteration, then call the hooks."""
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.before_step()

    def after_step(self) -> None:
        """Count the step as done, then call the hooks."""
        self.steps_done = self.iter + 1
        for hook in self._hooks:
            hook.after_step()

    def after_train(self) -> None:
        """Call the hooks, all of them even if one fails: files are to be closed."""
        self.storage.iter = self.iter
        errors: list[Exception] = []
        for hook in self._hooks:
            try:
                hook.after_train()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def state_dict(self) -> dict[str, Any]:
        """Finished steps, states of the hooks, latest scalars, random generators. Collective.

        The generators of every process are stored, so that each goes on with its own.
        """
        hooks = {name: hook.state_dict() for name, hook in self._named_hooks().items()}
        return {
            "iteration": self.steps_done,
            "hooks": {name: state for name, state in hooks.items() if state},
            "scalars": self.storage.state_dict(),
            "rng": self._restored_rng or comm.all_gather_object(rng_state()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of :meth:`state_dict`.

        The random generators are set when :meth:`train` is about to run its first step, so that
        nothing in between disturbs them.
        """
        self.iter = self.steps_done = state["iteration"]
        self.storage.load_state_dict(state["scalars"])
        self._restored_rng = list(state["rng"])
        if len(self._restored_rng) != comm.get_world_size():
            logger.warning(
                "The checkpoint is of a run with %d processes, this one has %d: it will not end "
                "with the same bits",
                len(self._restored_rng),
                comm.get_world_size(),
            )
        hooks = self._named_hooks()
        for name, hook_state in state["hooks"].items():
            if name in hooks:
                hooks[name].load_state_dict(hook_state)
            else:
                logger.warning("The checkpoint has the state of a hook '%s', unused here", name)

    def _named_hooks(self) -> dict[str, HookBase]:
        """Hooks by class name; the second of a class is ``Name-2``, and so on."""
        named: dict[str, HookBase] = {}
        for hook in self._hooks:
            name = base = type(hook).__name__
            number = 1
            while name in named:
                number += 1
                name = f"{base}-{number}"
            named[name] = hook
        return named
