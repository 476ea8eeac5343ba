"""The rows of the table: how each network and the weights that it starts from come about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from fpnas.archs import Architecture, get_arch
from fpnas.blocks import BlockSpec, round_channels
from fpnas.errors import UserError
from fpnas.modeling import SearchedNet
from fpnas.training.fine_tuning import initial_network
from photos_lib.cut import fresh_thinned, random_network, thinned
from photos_lib.depgraph import PRUNINGS
from photos_lib.fastnas import fastnas
from photos_lib.row import FRESH, PUBLISHED, Given, Row, load_network
from photos_lib.study import FULL, WHOLE

_SIZE_STEP = 8  # px
_TOLERANCE = 1.01  # the classifier costs the same at any size
_WIDTHS = [width / 100 for width in range(300, 9, -1)]


def full(given: Given) -> SearchedNet:
    """The published network with a fresh classifier."""
    network, _ = initial_network(given.cfg, len(given.classes), resume=False)
    return network


class Shrunk(nn.Module):
    """A network that sees its images smaller.

    So the teacher of its training sees the same photos at their own size.
    """

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network = network
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        side = [self.size, self.size]
        smaller = F.interpolate(images, side, mode="bicubic", antialias=True, align_corners=False)
        return self.network(smaller)


def small_input(given: Given) -> Shrunk:
    """The whole network at the largest input size within budget, a multiple of 8 px."""
    for size in range(given.size, 0, -_SIZE_STEP):
        if given.teacher.arch.flops(size) <= _TOLERANCE * given.budget:
            return Shrunk(given.teacher, size)
    raise UserError(f"No input size leaves {given.percent} % of the FLOPs.")


def from_search(files: Mapping[int, str], given: Given) -> SearchedNet:
    """What ``fpnas search`` has found: its network.pth."""
    return load_network(files[given.percent], given.classes)


def from_scratch(files: Mapping[int, str], given: Given) -> SearchedNet:
    """An architecture with fresh weights."""
    return SearchedNet(get_arch(files[given.percent]).with_num_classes(len(given.classes)))


def scaled(name: str, given: Given) -> SearchedNet:
    """A known architecture, as wide as fits into the budget, with fresh weights.

    Raises UserError if it costs more at any width.
    """
    base = get_arch(name).with_num_classes(len(given.classes))
    for width in _WIDTHS:
        arch = _with_width(base, width)
        if arch.flops(given.size) <= given.budget:
            return SearchedNet(arch)
    raise UserError(f"{name} costs more than {given.percent} % at any width.")


def _with_width(arch: Architecture, width: float) -> Architecture:
    def wide(block: BlockSpec) -> BlockSpec:
        return replace(block, channels=round_channels(block.channels * width))

    stages = tuple(tuple(map(wide, stage)) for stage in arch.stages)
    return replace(arch, stem=wide(arch.stem), stages=stages, head=wide(arch.head))


def all_rows(found: Mapping[int, str], fresh: Mapping[int, str]) -> dict[str, Row]:
    """Every row by its name.

    Args:
        found: network.pth by percent.
        fresh: architectures, names or files, by percent.
    """
    return {
        FULL: Row(full, (WHOLE,), weights=PUBLISHED),
        "small-input": Row(small_input),
        "thinned": Row(thinned),
        "random": Row(random_network),
        **{name: Row(pruning) for name, pruning in PRUNINGS.items()},
        "fastnas": Row(fastnas),
        "found": Row(partial(from_search, found), tuple(found), found),
        "fresh": Row(partial(from_scratch, fresh), tuple(fresh), fresh, weights=FRESH),
        "fresh-thinned": Row(fresh_thinned, weights=FRESH),
        "fresh-mobilenetv3": Row(partial(scaled, "mobilenetv3_small_100"), weights=FRESH),
    }
