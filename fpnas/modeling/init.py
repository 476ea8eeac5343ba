"""Initial weights."""

from __future__ import annotations

import math

from torch import nn


def init_weights(module: nn.Module) -> nn.Module:
    """Initialise every layer inside ``module`` in place and return it.

    Convolutions: normal with variance 2 / fan-out, where the fan-out of a grouped convolution is
    that of one group. Linear layers: uniform within 1 / sqrt(outputs). Both as in EfficientNet.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            area = layer.kernel_size[0] * layer.kernel_size[1]
            fan_out = area * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / fan_out))
        elif isinstance(layer, nn.Linear):
            bound = 1.0 / math.sqrt(layer.out_features)
            nn.init.uniform_(layer.weight, -bound, bound)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return module
