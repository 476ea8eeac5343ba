"""Our EfficientNet-Lites as timm's networks, for libraries that are made for these."""

from __future__ import annotations

import timm
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from fpnas.errors import UserError
from fpnas.model_zoo.layouts import from_timm_state
from fpnas.modeling import SearchedNet

_TOLERANCE = 1e-4  # of a logit


def as_timm(network: SearchedNet) -> nn.Module:
    """timm's network of the same architecture, with the weights of ``network``, in eval mode.

    Its BatchNorms and their activations are modules of torch, which every library knows.

    Raises UserError if timm has no such network, CheckpointError if its layers are others.
    """
    arch = network.arch
    name = f"tf_{arch.name}"  # the EfficientNet-Lites with TensorFlow's padding
    if not timm.is_model(name):
        raise UserError(f"timm {timm.__version__} has no network '{name}' to prune.")
    theirs = timm.create_model(name, num_classes=arch.num_classes).eval()
    own = network.state_dict()
    with torch.no_grad():
        # Under our names, but still the tensors of timm's network.
        for key, tensor in from_timm_state(theirs.state_dict(), arch).items():
            if key in own:  # a frozen BatchNorm counts no batches
                tensor.copy_(own[key])
    _split_norms(theirs)
    _check_same(network, theirs)
    return theirs


def _split_norms(network: nn.Module) -> None:
    """Exchange timm's BatchNorms with activation for a BatchNorm and an activation. In place."""
    for name, layer in list(network.named_modules()):
        if isinstance(layer, BatchNormAct2d):
            norm = nn.BatchNorm2d(layer.num_features, layer.eps, layer.momentum)
            norm.load_state_dict(layer.state_dict())
            network.set_submodule(name, nn.Sequential(norm.eval(), layer.act))


def _check_same(ours: SearchedNet, theirs: nn.Module) -> None:
    size = ours.arch.input_size
    image = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = (ours.eval()(image) - theirs(image)).abs().max().item()
    if difference > _TOLERANCE:
        raise UserError(f"timm's '{ours.arch.name}' differs from ours by {difference:.2g}.")
