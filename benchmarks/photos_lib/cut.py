"""Rows of networks that are cut from the whole one without a search, by the space around it."""

from __future__ import annotations

import itertools
from bisect import bisect_right

import torch
from random_architectures import uniform_within
from torch import Tensor
from units import stored

from fpnas.errors import UserError
from fpnas.modeling import (
    SearchedNet,
    SuperNet,
    pretrained_supernet,
    recalibrate_bn,
    taylor_scores,
)
from fpnas.spaces import NetworkSpace
from fpnas.spaces.around import Cuts
from fpnas.spaces.space import SearchVariable
from fpnas.training.accuracy import evaluate
from fpnas.utils.rng import generator_for
from photos_lib.row import Given

_SCORE_BATCHES = 16  # that say which channels matter
_SHARES = [step / 100 for step in range(1, 101)]
_LARGEST_KERNEL = 99  # px: no kernel shrinks
_RANDOM = 10
_LEAST_SHARE = 0.95  # of the budget, that a random architecture uses
_BN_BATCHES = 10


def thinned(given: Given) -> SearchedNet:
    """Every expansion cut to the same share of its channels; the most important ones stay."""
    space, choices = _thinned(given)
    return _cut(given, space, choices)


def fresh_thinned(given: Given) -> SearchedNet:
    """The architecture of :func:`thinned` with fresh weights."""
    space, choices = _thinned(given)
    return SearchedNet(space.architecture(choices).with_num_classes(len(given.classes)))


def random_network(given: Given) -> SearchedNet:
    """Of random networks within budget, the one with the least loss on held-out photos.

    As it is cut, with BatchNorm measured anew, untrained. It is chosen in stage "choose".
    """
    space = NetworkSpace.around(given.teacher.arch).at(given.size, len(given.classes))
    file = given.decisions / f"{given.percent}.json"
    return _cut(given, space, torch.tensor(stored(file, lambda: _best_random(given, space))))


def _thinned(given: Given) -> tuple[NetworkSpace, Tensor]:
    cuts = Cuts(_SHARES, widths=(1,), smallest_kernel=_LARGEST_KERNEL, skips=False)
    space = NetworkSpace.around(given.teacher.arch, cuts).at(given.size)
    for share in sorted(_SHARES, reverse=True):
        choices = torch.tensor([_index_at_most(share * v.values[-1], v) for v in space.variables])
        if space.architecture(choices).flops() <= given.budget:
            return space, choices
    raise UserError(f"No expansions leave {given.percent} % of the FLOPs.")


def _index_at_most(value: float, variable: SearchVariable) -> int:
    """The largest of the ascending values up to ``value``; the smallest if there is none."""
    return max(bisect_right(variable.values, value) - 1, 0)


def _cut(given: Given, space: NetworkSpace, choices: Tensor) -> SearchedNet:
    return _supernet(given, space).eval().extract(choices)


def _supernet(given: Given, space: NetworkSpace) -> SuperNet:
    batches = itertools.islice(given.batches(), _SCORE_BATCHES)
    return pretrained_supernet(given.teacher, space, taylor_scores(given.teacher, batches))


def _best_random(given: Given, space: NetworkSpace) -> list[int]:
    supernet = _supernet(given, space).eval()
    photos = given.held_out()
    low, generator = _LEAST_SHARE * given.budget, generator_for(0, "random networks")
    draws = uniform_within(space, space.flops, low, given.budget, generator)
    losses = {}
    for choices in itertools.islice(draws, _RANDOM):
        network = supernet.extract(choices)
        batches = itertools.islice(given.batches(), _BN_BATCHES)
        recalibrate_bn(network, (images for images, _ in batches))
        losses[tuple(choices.tolist())] = evaluate(network, photos)["loss"]
    return list(min(losses, key=losses.get))
