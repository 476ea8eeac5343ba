"""BatchNorm statistics of one architecture of a supernet."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from fpnas.errors import DataError

with warnings.catch_warnings():  # fvcore scripts its losses when it is imported
    warnings.simplefilter("ignore", FutureWarning)
    from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats


@torch.no_grad()
def recalibrate_bn(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace all running statistics by those of ``batches`` of images ``[N, C, H, W]``.

    Mean and variance of a layer are those of all its inputs together, in training mode; a larger
    batch weighs more.

    The statistics that a supernet gathers mix those of all its architectures, so they must be
    measured anew before one of them is evaluated. Changes ``model`` in place, restores its mode.
    Raises DataError without batches.
    """
    batches = list(batches)
    if not batches:
        raise DataError("BatchNorm statistics need at least one batch of images.")
    training = model.training
    model.train()
    layers = get_bn_modules(model)
    borrowed = [(layer.running_mean, layer.running_var) for layer in layers]
    update_bn_stats(model, batches, num_iters=len(batches))
    # fvcore puts new tensors in their place; a supernet's networks must keep the shared ones.
    for layer, (mean, var) in zip(layers, borrowed, strict=True):
        layer.running_mean = mean.copy_(layer.running_mean)
        # Its E[x^2] - E[x]^2 may round to below 0 where the variance is 0.
        layer.running_var = var.copy_(layer.running_var.clamp(min=0))
    model.train(training)
