"""Exchanging modules, and new convolutions from old ones."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


def replace_modules(
    network: nn.Module, kind: type[nn.Module], build: Callable[[nn.Module], nn.Module]
) -> None:
    """Put ``build(module)`` in the place of every submodule whose class is exactly ``kind``.

    Subclasses stay: they may compute something else. One that stands in several places, such as the
    activation of branches, is replaced in each.
    """
    for name, module in list(network.named_modules(remove_duplicate=False)):
        if name and type(module) is kind:
            network.set_submodule(name, build(module))


def conv_with(conv: nn.Conv2d, weight: Tensor, bias: Tensor | None, groups: int = 1) -> nn.Conv2d:
    """A convolution with the stride, padding and dilation of ``conv`` and other weights.

    Args:
        weight: ``[out, in / groups, k, k]``.
        bias: ``[out]``.
    """
    made = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        groups=groups,
        bias=bias is not None,
        device="meta",  # no memory and no random numbers for weights that are replaced at once
    )
    made.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return made.train(conv.training)
