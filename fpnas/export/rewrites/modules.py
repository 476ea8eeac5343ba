"""Changes to a network that keep its outputs: BatchNorms folded, modules exchanged.

In eval mode a BatchNorm after a convolution is part of the convolution.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable

from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops import FrozenBatchNorm2d

_BatchNorm = (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d)


def fold_bn(model: nn.Module) -> nn.Module:
    """A copy of ``model`` in eval mode, with every Conv2d + BatchNorm pair made one Conv2d.

    A folded BatchNorm leaves an ``nn.Identity`` in its place, so the copy keeps the module tree and
    the classes of the original. ``model`` itself is not touched.

    Pairs come from the data flow (a torch.fx trace), not from names or the order of definition: the
    convolution's output must go to that BatchNorm and nowhere else, and both must be called once.
    Where a module's ``forward`` cannot be traced, its children are tried one by one; what stays
    unfolded is still correct, only slower.
    """
    folded = copy.deepcopy(model).eval()
    for conv_name, bn_name in _conv_bn_pairs(folded):
        conv, bn = folded.get_submodule(conv_name), folded.get_submodule(bn_name)
        folded.set_submodule(conv_name, fuse_conv_bn_eval(conv, bn))
        folded.set_submodule(bn_name, nn.Identity())
    return folded


class _Tracer(fx.Tracer):
    """Sees every convolution and normalisation as one step, also ours and torchvision's."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        whole = isinstance(m, (nn.Conv2d, *_BatchNorm))
        return whole or super().is_leaf_module(m, module_qualified_name)


def _conv_bn_pairs(module: nn.Module) -> list[tuple[str, str]]:
    """Names, relative to ``module``, of the convolutions and BatchNorms that can be fused."""
    try:
        graph = _Tracer().trace(module)
    except Exception:  # user code with control flow on tensors raises whatever it likes
        return [
            (f"{name}.{conv}", f"{name}.{bn}")
            for name, child in module.named_children()
            for conv, bn in _conv_bn_pairs(child)
        ]
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    pairs = []
    for node in graph.nodes:
        if node.op != "call_module":
            continue
        bn = module.get_submodule(node.target)
        # Without running statistics it depends on the batch.
        if not isinstance(bn, _BatchNorm) or bn.running_mean is None:
            continue
        source = node.args[0] if node.args else None
        if (
            isinstance(source, fx.Node)
            and source.op == "call_module"
            and isinstance(module.get_submodule(source.target), nn.Conv2d)
            and len(source.users) == 1
            and calls[source.target] == calls[node.target] == 1
        ):
            pairs.append((source.target, node.target))
    return pairs


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
