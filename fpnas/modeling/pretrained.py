"""A supernet that starts from a trained network: the largest of its architectures is that one."""

from __future__ import annotations

import copy

import torch

from fpnas.errors import CheckpointError
from fpnas.modeling.channel_order import Scores, magnitudes, order_channels
from fpnas.modeling.searched_net import SearchedNet
from fpnas.modeling.supernet import SuperNet
from fpnas.spaces import NetworkSpace


def pretrained_supernet(
    network: SearchedNet, space: NetworkSpace, scores: Scores | None = None
) -> SuperNet:
    """A supernet of the space around ``network.arch`` whose weights are those of ``network``.

    Its largest architecture computes what the network computes, but for rounding; every other one
    has the channels of its weights that matter most, and the centres of its kernels. All choices
    share weights (``sharing`` "all").

    Args:
        network: trained; it stays as it is.
        space: ``NetworkSpace.around(network.arch)``.
        scores: which channels matter, best by :func:`taylor_scores` on images that the network was
            trained on. None: the size of weights says so, :func:`magnitudes`.

    Raises CheckpointError if the space lies around another architecture.
    """
    arch = network.arch
    if space.origin is None or space.origin.with_num_classes(arch.num_classes) != arch:
        around = "nothing" if space.origin is None else f"'{space.origin.name}'"
        raise CheckpointError(
            f"The weights are those of architecture '{arch.name}', but space '{space.name}' lies "
            f"around {around}."
        )
    ordered = copy.deepcopy(network)
    order_channels(ordered, magnitudes(ordered) if scores is None else scores)
    with torch.random.fork_rng(devices=[]):
        supernet = SuperNet(space, arch.num_classes, sharing="all")
    with torch.no_grad():
        supernet.bind(supernet.space.origin_choices).load_state_dict(ordered.state_dict())
    return supernet.to(next(network.parameters()).device)
