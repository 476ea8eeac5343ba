"""From cfg.SOLVER: optimizer, schedule of its learning rate, and average of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    CosineParamScheduler,
    LinearParamScheduler,
    ParamScheduler,
)
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer, RMSprop
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fpnas.config import CfgNode
from fpnas.config.checks import check_name, check_value

OPTIMIZERS = ("sgd", "rmsprop", "adamw")
SCHEDULES = ("cosine", "exponential", "onecycle", "constant")

# RMSProp as TensorFlow has it, in which EfficientNet was trained: epsilon 0.001 is added to the
# mean square. PyTorch adds epsilon to its root, and sqrt(0.001) = 0.0316.
_RMSPROP_ALPHA = 0.9
_RMSPROP_EPS = 0.0316

# "onecycle" rises from 1/25 of the largest rate in the first 30 % of the run, as in torch.
_ONECYCLE_START = 0.04
_ONECYCLE_RISE = 0.3


def check_solver_config(cfg: CfgNode) -> None:
    """Raise ConfigError, which names the key, for the first value under cfg.SOLVER of no use."""
    s = cfg.SOLVER
    check_name("SOLVER.OPTIMIZER", s.OPTIMIZER, OPTIMIZERS)
    check_name("SOLVER.SCHEDULE", s.SCHEDULE, SCHEDULES)
    _check("EPOCHS", s.EPOCHS, s.EPOCHS >= 1, "at least 1")
    _check("BATCH_SIZE", s.BATCH_SIZE, s.BATCH_SIZE >= 1, "at least 1")
    _check("LR", s.LR, s.LR > 0, "above 0")
    _check("BODY_LR", s.BODY_LR, 0 <= s.BODY_LR <= 1, "0 to 1, a share of LR")
    _check("MOMENTUM", s.MOMENTUM, 0 <= s.MOMENTUM < 1, "0 or more, below 1")
    nesterov_works = s.OPTIMIZER == "sgd" and s.MOMENTUM > 0
    _check("NESTEROV", s.NESTEROV, nesterov_works or not s.NESTEROV, "False without SGD's momentum")
    _check("WEIGHT_DECAY", s.WEIGHT_DECAY, s.WEIGHT_DECAY >= 0, "at least 0")
    _check("WEIGHT_DECAY_NORM", s.WEIGHT_DECAY_NORM, s.WEIGHT_DECAY_NORM >= 0, "at least 0")
    _check("LR_END", s.LR_END, 0 <= s.LR_END <= 1, "0 to 1, a share of LR")
    _check("LR_DECAY", s.LR_DECAY, 0 < s.LR_DECAY <= 1, "above 0, at most 1")
    is_within_run = 0 <= s.LR_WARMUP_EPOCHS < s.EPOCHS
    epochs_allowed = f"0 or more, below SOLVER.EPOCHS ({s.EPOCHS})"
    _check("LR_WARMUP_EPOCHS", s.LR_WARMUP_EPOCHS, is_within_run, epochs_allowed)
    no_second_warmup = s.SCHEDULE != "onecycle" or not s.LR_WARMUP_EPOCHS
    _check("LR_WARMUP_EPOCHS", s.LR_WARMUP_EPOCHS, no_second_warmup, "0 with 'onecycle'")
    _check("LR_WARMUP_FACTOR", s.LR_WARMUP_FACTOR, 0 <= s.LR_WARMUP_FACTOR <= 1, "0 to 1")
    _check("LABEL_SMOOTHING", s.LABEL_SMOOTHING, 0 <= s.LABEL_SMOOTHING < 1, "0 or more, below 1")
    _check("EMA_DECAY", s.EMA_DECAY, 0 <= s.EMA_DECAY < 1, "0 or more, below 1")
    _check("CLIP_GRAD_NORM", s.CLIP_GRAD_NORM, s.CLIP_GRAD_NORM >= 0, "at least 0")
    d = s.DISTILL
    _check("DISTILL.WEIGHT", d.WEIGHT, 0 <= d.WEIGHT <= 1, "0 to 1")
    _check("DISTILL.TEMPERATURE", d.TEMPERATURE, d.TEMPERATURE > 0, "above 0")


def _check(key: str, value: object, is_valid: bool, valid: str) -> None:
    check_value(f"SOLVER.{key}", value, is_valid, valid)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """The optimizer that ``cfg.SOLVER`` names, for all trainable parameters of ``model``.

    Two groups, if none of them is empty: weights, with WEIGHT_DECAY; BatchNorm parameters and
    biases, which are all those of one dimension, with WEIGHT_DECAY_NORM. With a BODY_LR other than
    1 the head's last layer, ``model.head.fc``, has groups of its own. "adamw" has decoupled decay
    and its own betas; MOMENTUM does not apply to it.

    Raises ConfigError on unusable keys.
    """
    check_solver_config(cfg)
    solver = cfg.SOLVER
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    parts: list[tuple[list[nn.Parameter], dict[str, float]]] = [(trainable, {})]
    if solver.BODY_LR != 1:
        classifier = set(model.head.fc.parameters())
        body = [parameter for parameter in trainable if parameter not in classifier]
        rest = [parameter for parameter in trainable if parameter in classifier]
        parts = [(body, {"lr": solver.LR * solver.BODY_LR}), (rest, {})]
    groups = [
        {"params": own, "weight_decay": decay, **rate}
        for are_weights, decay in ((True, solver.WEIGHT_DECAY), (False, solver.WEIGHT_DECAY_NORM))
        for part, rate in parts
        if (own := [p for p in part if (p.dim() > 1) == are_weights])
    ]
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


class EpochDecay(ParamScheduler):
    """``factor ** epoch``, constant within an epoch.

    fvcore's step schedulers round epochs with a tolerance of 1e-6 of the run, which is several
    iterations of a long one; this counts them.
    """

    def __init__(self, factor: float, epochs: float, iters_per_epoch: int) -> None:
        self._factor = factor
        self._num_iters = epochs * iters_per_epoch
        self._iters_per_epoch = iters_per_epoch

    def __call__(self, where: float) -> float:
        epoch = round(where * self._num_iters) // self._iters_per_epoch
        return self._factor ** max(epoch, 0)


def build_schedule(cfg: CfgNode, iters_per_epoch: int) -> ParamScheduler:
    """The factor on SOLVER.LR as a function of progress: iteration / (EPOCHS * iters_per_epoch).

    The first LR_WARMUP_EPOCHS rise linearly from LR_WARMUP_FACTOR to 1; the schedule fills the
    epochs that remain. Raises ConfigError on unusable keys.
    """
    check_solver_config(cfg)
    solver = cfg.SOLVER
    if solver.SCHEDULE == "cosine":
        schedule = CosineParamScheduler(1.0, solver.LR_END)
    elif solver.SCHEDULE == "exponential":
        epochs = solver.EPOCHS - solver.LR_WARMUP_EPOCHS
        schedule = EpochDecay(solver.LR_DECAY, epochs, iters_per_epoch)
    elif solver.SCHEDULE == "onecycle":
        rise = CosineParamScheduler(_ONECYCLE_START, 1.0)
        schedule = _in_turn(rise, _ONECYCLE_RISE, CosineParamScheduler(1.0, solver.LR_END))
    else:
        schedule = ConstantParamScheduler(1.0)
    if not solver.LR_WARMUP_EPOCHS:
        return schedule
    share = solver.LR_WARMUP_EPOCHS / solver.EPOCHS
    return _in_turn(LinearParamScheduler(solver.LR_WARMUP_FACTOR, 1.0), share, schedule)


def _in_turn(first: ParamScheduler, share: float, second: ParamScheduler) -> ParamScheduler:
    """``first`` over the first ``share`` of the progress, ``second`` over the rest."""
    return CompositeParamScheduler(
        [first, second],
        lengths=[share, 1 - share],
        interval_scaling=["rescaled", "rescaled"],
    )


def build_ema(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of ``model`` that becomes its average: ``ema.update_parameters(model)`` every step.

    The n-th update after the first has the decay ``min(decay, (1 + n) / (10 + n))``. So the average
    spans about the last tenth of a short training, instead of remembering its random start, and is
    the usual one with ``decay`` from step ``(10 decay - 1) / (1 - decay)`` on (89,990 for 0.9999).

    The statistics of BatchNorm are averaged like the weights, integer counters are copied.
    """

    def update(averages: list[Tensor], values: list[Tensor], num_averaged: Tensor | int) -> None:
        if averages[0].is_floating_point():
            average = get_ema_multi_avg_fn(decay_at(decay, int(num_averaged)))
            average(averages, values, num_averaged)
        else:
            torch._foreach_copy_(averages, values)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)


def decay_at(decay: float, num_averaged: int) -> float:
    """The decay of the update that follows ``num_averaged`` earlier ones."""
    return min(decay, (1 + num_averaged) / (10 + num_averaged))
