"""Normalisation layers of a built network: frozen, synchronised, and whole frozen stages."""

from __future__ import annotations

from torch import nn
from torchvision.ops import FrozenBatchNorm2d, StochasticDepth

from fpnas.config.checks import check_name
from fpnas.errors import ConfigError

NORMS = ("BN", "FrozenBN", "SyncBN")

_BatchNorm = (nn.BatchNorm2d, nn.SyncBatchNorm)


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
            if isinstance(layer, _BatchNorm):
                net.set_submodule(name, _frozen(layer))


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


def _frozen(norm: nn.BatchNorm2d | nn.SyncBatchNorm) -> FrozenBatchNorm2d:
    frozen = FrozenBatchNorm2d(norm.num_features, eps=norm.eps)
    for name in ("weight", "bias", "running_mean", "running_var"):
        setattr(frozen, name, getattr(norm, name).detach().clone())
    return frozen.train(norm.training)
