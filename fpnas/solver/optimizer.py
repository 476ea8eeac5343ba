"""Optimizers of a network's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer, RMSprop

from fpnas.config import CfgNode
from fpnas.solver.options import check_solver_config

# RMSProp as TensorFlow has it, in which EfficientNet was trained: epsilon 0.001 is added to the
# mean square. PyTorch adds epsilon to its root, and sqrt(0.001) = 0.0316.
_RMSPROP_ALPHA = 0.9
_RMSPROP_EPS = 0.0316


def build_optimizer(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """The optimizer that ``cfg.SOLVER`` names, for all trainable parameters of ``model``.

    Two groups: weights, with WEIGHT_DECAY; BatchNorm parameters and biases, with
    WEIGHT_DECAY_NORM. "adamw" has decoupled decay and its own betas; MOMENTUM does not apply to it.
    With a BODY_LR other than 1 the head's last layer, ``model.head.fc``, has groups of its own.

    Raises ConfigError on unusable keys.
    """
    check_solver_config(cfg)
    solver = cfg.SOLVER
    groups = parameter_groups(model, solver.WEIGHT_DECAY, solver.WEIGHT_DECAY_NORM)
    if solver.BODY_LR != 1:
        groups = _slower_body(groups, set(model.head.fc.parameters()), solver)
    if solver.OPTIMIZER == "sgd":
        return SGD(groups, lr=solver.LR, momentum=solver.MOMENTUM, nesterov=solver.NESTEROV)
    if solver.OPTIMIZER == "rmsprop":
        return RMSprop(
            groups,
            lr=solver.LR,
            alpha=_RMSPROP_ALPHA,
            eps=_RMSPROP_EPS,
            momentum=solver.MOMENTUM,
        )
    return AdamW(groups, lr=solver.LR)


def parameter_groups(
    model: nn.Module, weight_decay: float, weight_decay_norm: float
) -> list[dict[str, object]]:
    """Trainable parameters with their weight decay; a group that would be empty is left out.

    All parameters of one dimension are BatchNorm's or biases.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.dim() <= 1], "weight_decay": weight_decay_norm},
    ]
    return [group for group in groups if group["params"]]


def _slower_body(
    groups: list[dict[str, object]], classifier: set[nn.Parameter], solver: CfgNode
) -> list[dict[str, object]]:
    """Each group in two: the body's at BODY_LR times LR, and the classifier's."""
    halves = []
    for group in groups:
        body = [parameter for parameter in group["params"] if parameter not in classifier]
        rest = [parameter for parameter in group["params"] if parameter in classifier]
        halves.append({**group, "params": body, "lr": solver.LR * solver.BODY_LR})
        halves.append({**group, "params": rest})
    return [half for half in halves if half["params"]]


def restore_optimizer(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Take over what ``state`` has accumulated, and no setting: a resumed run may have another LR.

    ``Optimizer.load_state_dict`` alone would bring back rate, momentum and weight decay, too.
    Raises ValueError if the groups have other numbers of parameters.
    """
    settings = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    optimizer.load_state_dict(dict(state))
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        parameters = group["params"]
        group.clear()
        group.update(own, params=parameters)
