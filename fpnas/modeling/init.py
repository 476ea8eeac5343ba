"""Initial weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd


def init_weights(module: nn.Module) -> nn.Module:
    """Initialise every layer inside ``module`` in place and return it.

    Convolutions: normal with variance 2 / fan-out, where the fan-out of a grouped convolution is
    that of one group. Linear layers: uniform within 1 / sqrt(max(inputs, outputs)), which keeps the
    first logits small however few classes there are. Both as in EfficientNet, whose linear layers,
    of 1000 classes, have about as many inputs as outputs.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            area = layer.kernel_size[0] * layer.kernel_size[1]
            fan_out = area * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / fan_out))
        elif isinstance(layer, nn.Linear):
            bound = 1.0 / math.sqrt(max(layer.in_features, layer.out_features))
            nn.init.uniform_(layer.weight, -bound, bound)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return module


def zero_init_residual(module: nn.Module) -> None:
    """Let a block with a shortcut start as that shortcut: its last BatchNorm's weight becomes 0.

    As in "Accurate, Large Minibatch SGD" (section 5.1), for ResNets, and in BigNAS, for supernets.
    """
    if getattr(module, "has_shortcut", False):
        nn.init.zeros_(module.project.bn.weight)


@contextmanager
def without_init() -> Iterator[None]:
    """Convolutions, linear layers and BatchNorms made inside keep whatever is in their memory.

    For modules whose weights are all replaced anyway: filling them takes more than half of the
    time of building a block.
    """
    fills = [(layer, layer.reset_parameters) for layer in (_ConvNd, nn.Linear, _NormBase)]
    try:
        for layer, _ in fills:
            layer.reset_parameters = lambda self: None
        yield
    finally:
        for layer, fill in fills:
            layer.reset_parameters = fill
