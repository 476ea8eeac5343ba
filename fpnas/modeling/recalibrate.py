"""BatchNorm statistics of one architecture of a supernet."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats
from torch import Tensor, nn

from fpnas.errors import DataError


@torch.no_grad()
def recalibrate_bn(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace all running statistics by averages over ``batches`` of images ``[N, C, H, W]``.

    The statistics that a supernet gathers mix those of all its architectures, so they must be
    measured anew before one of them is evaluated. Changes ``model`` in place, restores its mode.
    Raises DataError without batches.
    """
    batches = list(batches)
    if not batches:
        raise DataError("BatchNorm statistics need at least one batch of images.")
    training = model.training
    model.train()
    if get_bn_modules(model):
        update_bn_stats(model, batches, num_iters=len(batches))
    model.train(training)
