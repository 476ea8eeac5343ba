"""Learning-rate schedules, as fvcore multipliers over the progress of a run."""

from __future__ import annotations

from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    CosineParamScheduler,
    LinearParamScheduler,
    ParamScheduler,
)

from fpnas.config import CfgNode
from fpnas.solver.options import check_solver_config

# "onecycle" rises from 1/25 of the largest rate in the first 30 % of the run, as in torch.
_ONECYCLE_START = 0.04
_ONECYCLE_RISE = 0.3


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
    schedule = _main_schedule(cfg, solver.EPOCHS - solver.LR_WARMUP_EPOCHS, iters_per_epoch)
    if not solver.LR_WARMUP_EPOCHS:
        return schedule
    share = solver.LR_WARMUP_EPOCHS / solver.EPOCHS
    return _in_turn(LinearParamScheduler(solver.LR_WARMUP_FACTOR, 1.0), share, schedule)


def _main_schedule(cfg: CfgNode, epochs: float, iters_per_epoch: int) -> ParamScheduler:
    solver = cfg.SOLVER
    if solver.SCHEDULE == "cosine":
        return CosineParamScheduler(1.0, solver.LR_END)
    if solver.SCHEDULE == "exponential":
        return EpochDecay(solver.LR_DECAY, epochs, iters_per_epoch)
    if solver.SCHEDULE == "onecycle":
        rise = CosineParamScheduler(_ONECYCLE_START, 1.0)
        return _in_turn(rise, _ONECYCLE_RISE, CosineParamScheduler(1.0, solver.LR_END))
    return ConstantParamScheduler(1.0)


def _in_turn(first: ParamScheduler, share: float, second: ParamScheduler) -> ParamScheduler:
    """``first`` over the first ``share`` of the progress, ``second`` over the rest."""
    return CompositeParamScheduler(
        [first, second],
        lengths=[share, 1 - share],
        interval_scaling=["rescaled", "rescaled"],
    )
