"""The channels of a network in the order of their importance, so that the first are the best.

A supernet hands out the first channels of its weights. The channels of a pretrained network stand
in no order, so that cutting it there takes what comes; ordered, it loses the least.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fpnas.blocks import HeadSpec, MBConv, PooledHeadSpec
from fpnas.layers import ConvBNAct
from fpnas.modeling.searched_net import SearchedNet

# Of a BatchNorm, by its path in the network: how much each of its channels matters, [C].
Scores = Mapping[str, Tensor]


@torch.no_grad()
def magnitudes(network: SearchedNet) -> dict[str, Tensor]:
    """Scores by size alone: the scale of each BatchNorm, times the projection of that channel."""
    scores = {path: layer.weight.abs() for path, layer in _batch_norms(network)}
    for path, module in network.named_modules():
        if isinstance(module, MBConv):
            used = module.project.conv.weight.flatten(1).norm(dim=0)
            own = scores[f"{path}.depthwise.bn"]
            scores[f"{path}.depthwise.bn"] = own * used.repeat_interleave(len(own) // len(used))
    return scores


def taylor_scores(
    network: SearchedNet, batches: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """Scores by what the loss would change if a channel were 0, to first order.

    The gate of a channel is the scale and shift of its BatchNorm: ``(w dL/dw + b dL/db)^2``, summed
    over the batches. Source: Molchanov et al. 2019, "Importance Estimation for Neural Network
    Pruning", equation 8 and section 3.2.

    Args:
        network: in eval mode while this looks at it; it is left as it was.
        batches: images [N, 3, H, W] and labels [N] that it was trained on.
    """
    layers = dict(_batch_norms(network))
    scores = {path: torch.zeros_like(layer.weight) for path, layer in layers.items()}
    parameters = [p for layer in layers.values() for p in (layer.weight, layer.bias)]
    training = network.training
    network.eval()
    for images, labels in batches:
        loss = F.cross_entropy(network(images), labels)
        gradients = iter(torch.autograd.grad(loss, parameters))
        for path, layer in layers.items():
            change = layer.weight * next(gradients) + layer.bias * next(gradients)
            scores[path] += change.detach().square()
    network.train(training)
    return scores


def _batch_norms(network: SearchedNet) -> list[tuple[str, nn.BatchNorm2d]]:
    return [(p, m) for p, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)]


@torch.no_grad()
def order_channels(network: SearchedNet, scores: Scores) -> None:
    """Order the channels of ``network`` by their ``scores``, the largest first. In place.

    Ordered are the inner channels of every MBConv, the hidden units of its attention, and the
    channels between blocks; those that a shortcut adds up have the sum of their scores. What the
    network computes stays the same, but for rounding.

    Channels stay as they are around blocks of one's own, and where a shortcut adds maps of
    different widths, since it adds the first of them.
    """
    for channels in _channels_of(network, scores):
        if channels.score is not None and not channels.is_fixed:
            order = channels.score.argsort(descending=True, stable=True)
            for axis in channels.axes:
                axis.reorder(order)


@dataclass(frozen=True)
class _Axis:
    """An axis of a weight that counts channels, ``each`` neighbours for one channel."""

    tensor: Tensor
    dim: int
    each: int = 1

    def reorder(self, order: Tensor) -> None:
        own = (order[:, None] * self.each + torch.arange(self.each, device=order.device)).flatten()
        self.tensor.copy_(self.tensor.index_select(self.dim, own))


@dataclass
class _Channels:
    """Channels whose order must be the same wherever they are counted."""

    axes: list[_Axis] = field(default_factory=list)
    score: Tensor | None = None  # None: nothing says what matters
    is_fixed: bool = False

    def read_by(self, layer: nn.Conv2d | nn.Linear) -> None:
        self.axes.append(_Axis(layer.weight, 1))

    def written_by(self, layer: ConvBNAct, score: Tensor, splits: int = 1) -> None:
        norm = layer.bn
        own = (layer.conv.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
        self.axes += [_Axis(tensor, 0, splits) for tensor in own]
        score = score.unflatten(0, (-1, splits)).sum(1)
        self.score = score if self.score is None else self.score + score


def _channels_of(network: SearchedNet, scores: Scores) -> list[_Channels]:
    """All channels of the network that may be ordered."""
    stream = _Channels(is_fixed=True)  # of the images
    found = []
    for path, block, in_channels in network.arch.named_blocks():
        module = network.get_submodule(path)
        if isinstance(module, nn.Identity):
            continue
        if isinstance(module, MBConv):
            out, inside = _through_mbconv(
                path, module, block.keeps_shape(in_channels), stream, scores
            )
            found += inside
        elif isinstance(module, ConvBNAct):
            stream.read_by(module.conv)
            out = _Channels()
            out.written_by(module, scores[f"{path}.bn"])
        elif isinstance(block, HeadSpec):
            stream.read_by(module.conv.conv)
            out = _Channels()  # the features, which are never cut
        elif isinstance(block, PooledHeadSpec):
            stream.read_by(module.expand.conv)
            out = _Channels()
            out.written_by(module.expand, scores[f"{path}.expand.bn"])
            out.read_by(module.widen)
        else:
            stream.is_fixed = True
            out = _Channels(is_fixed=True)
        if out is not stream:
            found.append(out)
        stream = out
    return found


def _through_mbconv(
    path: str, module: MBConv, keeps_shape: bool, stream: _Channels, scores: Scores
) -> tuple[_Channels, list[_Channels]]:
    """The channels that leave a block which ``stream`` enters, and those inside it."""
    inside = []
    inner = stream
    if isinstance(module.expand, ConvBNAct):
        stream.read_by(module.expand.conv)
        inner = _Channels()
        inner.written_by(module.expand, torch.zeros_like(scores[f"{path}.expand.bn"]))
        inside.append(inner)
    score = scores[f"{path}.depthwise.bn"]
    splits = len(score) // module.project.conv.in_channels
    inner.written_by(module.depthwise, score, splits)
    if not isinstance(module.attention, nn.Identity):
        first, second = module.attention.fc1, module.attention.fc2
        inner.read_by(first)
        inner.axes += [_Axis(second.weight, 0, splits), _Axis(second.bias, 0, splits)]
        hidden = _Channels([_Axis(first.weight, 0), _Axis(first.bias, 0)])
        hidden.score = first.weight.flatten(1).norm(dim=1) * second.weight.flatten(1).norm(dim=0)
        hidden.read_by(second)
        inside.append(hidden)
    inner.read_by(module.project.conv)
    out = stream
    if not (module.has_shortcut and keeps_shape):
        out = _Channels()
        if module.has_shortcut:
            stream.is_fixed = out.is_fixed = True
    out.written_by(module.project, scores[f"{path}.project.bn"])
    return out, inside
