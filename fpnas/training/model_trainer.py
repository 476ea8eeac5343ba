"""ModelTrainer: one step of the training of a network, whatever its task."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from fpnas.data.loader import BatchSource
from fpnas.engine import TrainerBase, check_finite
from fpnas.solver import restore_optimizer


class ModelTrainer(TrainerBase):
    """Trains a network on batches. A subclass says what the loss of a batch is.

    A step puts what :meth:`batch_loss` returns, "grad_norm" (before clipping) and "data_time" (s,
    waiting for the batch). A loss or a gradient that is not finite raises DivergedError before the
    weights are touched.

    Its state holds all but the evaluated weights (:attr:`evaluated`), which the checkpointer saves.

    Args:
        model: on its device.
        optimizer: of the model's parameters.
        batches: step i takes batch i.
        ema: average of ``model``, updated every step.
        clip_grad_norm: largest norm of the gradient; 0: no limit.

    Attributes:
        device: where the model is.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        batches: BatchSource,
        *,
        ema: AveragedModel | None = None,
        clip_grad_norm: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.optimizer = optimizer
        self.ema = ema
        self.device = next(model.parameters()).device
        self._source = batches
        self._clip_grad_norm = clip_grad_norm

    def batch_loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor | float]]:
        """The loss to descend, and the scalars to put, "loss" among them.

        ``batch`` is as its source has made it. The scalar "loss" decides whether the run goes on;
        with several processes it is their mean, so that all of them stop together.
        """
        raise NotImplementedError

    @property
    def evaluated(self) -> nn.Module:
        """The network that counts: the average if there is one."""
        return self.model if self.ema is None else self.ema.module

    def before_train(self) -> None:
        """Start the data where this run starts."""
        self._batches = self._source.iterate(self.start_iter)
        self.model.train()
        super().before_train()

    def after_train(self) -> None:
        """Let go of the data: its workers end."""
        del self._batches
        super().after_train()

    def run_step(self) -> None:
        """Forward, check, backward, update."""
        start = time.perf_counter()
        batch = next(self._batches)
        data_time = time.perf_counter() - start
        loss, scalars = self.batch_loss(batch)
        check_finite(scalars["loss"], self.iter)

        self.optimizer.zero_grad()
        loss.backward()
        grad_norm = self._clip_gradient()
        check_finite(grad_norm, self.iter, "gradient norm")
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        self.storage.put_scalars(**scalars, grad_norm=grad_norm, data_time=data_time)

    def _clip_gradient(self) -> Tensor:
        """Scale the gradient down to the largest norm allowed; its norm before."""
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        norm = get_total_norm([p.grad for p in parameters])
        if self._clip_grad_norm:
            clip_grads_with_norm_(parameters, self._clip_grad_norm, norm)
        return norm

    def state_dict(self) -> dict[str, Any]:
        """The loop's state, the optimizer's, and with an average the trained weights."""
        state = {**super().state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.ema is not None:
            state["trained_model"] = self.model.state_dict()
            state["num_averaged"] = int(self.ema.n_averaged)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over :meth:`state_dict`. ValueError if SOLVER.EMA_DECAY came or went."""
        if ("trained_model" in state) != (self.ema is not None):
            raise ValueError("only one of the two runs averages weights, SOLVER.EMA_DECAY")
        super().load_state_dict(state)
        restore_optimizer(self.optimizer, state["optimizer"])
        if self.ema is not None:
            self.model.load_state_dict(state["trained_model"])
            self.ema.n_averaged.fill_(state["num_averaged"])
