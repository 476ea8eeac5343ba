"""Stopping a run from outside without losing a step."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from fpnas.engine.train_loop import HookBase
from fpnas.utils import comm

logger = logging.getLogger(__name__)


class Interrupted(SystemExit):
    """The run was stopped by a signal. Ends the process with code 128 + the signal's number.

    That is 130 for SIGINT (Ctrl-C) and 143 for SIGTERM, as shells and schedulers expect.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(128 + signum)
        self.signum = signum
        self.message = message

    def __str__(self) -> str:
        return self.message


@contextmanager
def stop_signals_to(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle SIGINT and SIGTERM by ``handler``. Python allows that in the main thread only."""
    previous = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


class InterruptHook(HookBase):
    """On SIGINT or SIGTERM: finish the step, save a checkpoint, raise :class:`Interrupted`.

    A second SIGINT stops at once, without saving. With several processes, all stop after the same
    step as soon as one of them was signalled. Register it last.

    Args:
        save: writes a checkpoint in all processes and returns its file: ``CheckpointHook.save``.
    """

    def __init__(self, save: Callable[[], Path]) -> None:
        self._save = save
        self._received: list[int] = []
        self._handling = ExitStack()

    def before_train(self) -> None:
        self._received.clear()
        self._handling.enter_context(stop_signals_to(self._on_signal))

    def after_train(self) -> None:
        self._handling.close()

    def after_step(self) -> None:
        """Save and stop, if a signal has come."""
        if not comm.any_process(bool(self._received)):
            return
        path = self._save()
        comm.synchronize()  # the file is complete before any process leaves
        signum = self._received[0] if self._received else signal.SIGTERM
        message = (
            f"Stopped by {signal.Signals(signum).name} after {self.trainer.steps_done} of "
            f"{self.trainer.max_iter} steps; saved {path}. The same command with --resume goes on."
        )
        logger.warning(message)
        raise Interrupted(signum, message)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self._received.append(signum)
        if self._received.count(signal.SIGINT) > 1:
            raise Interrupted(signal.SIGINT, "Stopped at once by a second Ctrl-C, without saving.")
        if len(self._received) == 1:
            logger.warning(
                "%s: finishing this step, then saving. Ctrl-C (again) stops at once.",
                signal.Signals(signum).name,
            )
