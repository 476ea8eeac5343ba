"""SGD for weights that many architectures share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import sgd

from fpnas.config import CfgNode
from fpnas.modeling.weight_store import TouchedWeight, WeightStore, part


class SharedSGD(torch.optim.SGD):
    """SGD with momentum that steps, decays and clears only what the samples of a step touched.

    A weight that no sampled architecture used keeps its value and its momentum, as if its gradient
    were None. Where it used a part, only that part moves. The price of a step thus follows the
    sampled networks and not the size of the space.

    Args:
        store: the shared weights, ``supernet.store``.
        lr, momentum, weight_decay, nesterov: as in ``torch.optim.SGD``.
        weight_decay_norm: weight decay of BatchNorm parameters and biases.
        classifier_lr: learning rate of the head's fully connected layer, share of ``lr``.
    """

    def __init__(
        self,
        store: WeightStore,
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        weight_decay_norm: float = 0.0,
        nesterov: bool = False,
        classifier_lr: float = 1.0,
    ) -> None:
        self._store = store
        parameters = dict(store.named_weights())
        groups: dict[tuple[float, bool], dict[str, Any]] = {}
        for name, parameter in parameters.items():
            is_classifier = name.startswith("head/") and name.endswith(("/fc.weight", "/fc.bias"))
            rate = lr * classifier_lr if is_classifier else lr
            decay = weight_decay if parameter.dim() > 1 else weight_decay_norm
            group = {"params": [], "lr": rate, "weight_decay": decay}
            groups.setdefault((rate, parameter.dim() > 1), group)["params"].append(parameter)
        super().__init__(list(groups.values()), lr=lr, momentum=momentum, nesterov=nesterov)
        self._parameters = parameters
        # By number: loading a state replaces the groups themselves.
        self._group_of = {
            parameter: number
            for number, group in enumerate(self.param_groups)
            for parameter in group["params"]
        }

    @classmethod
    def from_cfg(cls, cfg: CfgNode, store: WeightStore) -> SharedSGD:
        """As ``cfg.SOLVER`` and ``cfg.SEARCH.CLASSIFIER_LR`` say."""
        solver = cfg.SOLVER
        return cls(
            store,
            lr=solver.LR,
            momentum=solver.MOMENTUM,
            weight_decay=solver.WEIGHT_DECAY,
            weight_decay_norm=solver.WEIGHT_DECAY_NORM,
            nesterov=solver.NESTEROV,
            classifier_lr=cfg.SEARCH.CLASSIFIER_LR,
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Step the touched parts. Takes no ``closure``."""
        if closure is not None:
            raise ValueError("SharedSGD.step takes no closure.")
        touched = self._store.touched()
        for number, group in enumerate(self.param_groups):
            own = [t for t in touched if self._group_of[self._parameters[t.name]] == number]
            if own:
                self._step_group(group, own)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the touched gradients; they are zeroed in place whatever ``set_to_none`` says."""
        self._store.clear_gradients()

    def _step_group(self, group: dict[str, Any], touched: list[TouchedWeight]) -> None:
        momentum = group["momentum"]
        sgd.sgd(
            params=[t.weight for t in touched],
            d_p_list=[t.grad for t in touched],
            momentum_buffer_list=[self._momentum_of(t) if momentum else None for t in touched],
            foreach=True,
            weight_decay=group["weight_decay"],
            momentum=momentum,
            lr=group["lr"],
            dampening=0.0,
            nesterov=group["nesterov"],
            maximize=False,
        )

    def _momentum_of(self, touched: TouchedWeight) -> Tensor:
        parameter = self._parameters[touched.name]
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            # Zeros give the same first step as torch's copy of the first gradient.
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return part(state["momentum_buffer"], touched.shape)
