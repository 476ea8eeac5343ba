"""Normalisation layers of a built network: frozen, synchronised, with statistics measured anew."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d, StochasticDepth

from fpnas.config.checks import check_name
from fpnas.errors import ConfigError, DataError

NORMS = ("BN", "FrozenBN", "SyncBN")


def convert_norm(net: nn.Module, norm: str) -> None:
    """Exchange the BatchNorms inside ``net``, which keep their numbers and their epsilon. In place.

    Args:
        net: the network, or a part of it.
        norm: "BN": as they are. "FrozenBN": torchvision's FrozenBatchNorm2d, whose statistics,
            scale and shift are constants, also in training mode; its output is that of the
            BatchNorm in eval mode. "SyncBN": statistics over the batches of all processes.

    Raises ConfigError on another name.
    """
    check_name("MODEL.NORM", norm, NORMS)
    if norm == "SyncBN":
        nn.SyncBatchNorm.convert_sync_batchnorm(net)
    if norm == "FrozenBN":
        for name, layer in list(net.named_modules()):
            if isinstance(layer, (nn.BatchNorm2d, nn.SyncBatchNorm)):
                frozen = FrozenBatchNorm2d(layer.num_features, eps=layer.eps)
                for key in ("weight", "bias", "running_mean", "running_var"):
                    setattr(frozen, key, getattr(layer, key).detach().clone())
                net.set_submodule(name, frozen.train(layer.training))


def freeze(net: nn.Module, stages: int) -> None:
    """Make the stem and the first ``stages`` stages of ``net`` constant. In place; 0: nothing.

    Their parameters need no gradient, their BatchNorms become frozen ones and their blocks are
    never dropped, so that they compute the same in training and in eval mode. All of that lies in
    the stages themselves: it survives ``net.train()`` and holds in any module that takes them over.

    Raises ConfigError if ``net`` has fewer stages.
    """
    parts = [name for name, _ in net.named_children() if name != "head"]
    if not 0 <= stages < len(parts):
        raise ConfigError(
            f"MODEL.FREEZE_STAGES is {stages}; valid: 0 (none) to {len(parts) - 1} (stem and all "
            "stages)."
        )
    for name in parts[: stages + 1] if stages else []:
        part = net.get_submodule(name)
        part.requires_grad_(False)
        convert_norm(part, "FrozenBN")
        for layer in part.modules():
            if isinstance(layer, StochasticDepth):
                layer.p = 0.0


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
