"""Small network spaces whose costs are chains, and scores for their groups."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from fpnas.blocks import ConvSpec, HeadSpec
from fpnas.search.chain import CostChain
from fpnas.spaces import BlockGroup, NetworkSpace

# Its blocks have as many channels as enter them.
FOLLOWING = BlockGroup({"kernel": (0, 3), "expansion": (1.5, 3.0)})


def choosing(channels: list[int], expansions: list[float]) -> BlockGroup:
    """A group of two blocks."""
    variables = {"expansion": tuple(expansions), "channels": tuple(channels)}
    return BlockGroup({"kernel": (0, 3), **variables}, repeats=2)


def chain_spaces() -> st.SearchStrategy[NetworkSpace]:
    """1 to 3 groups of at most 12 choices; some have as many channels as enter them."""
    own = st.builds(
        choosing,
        st.lists(st.sampled_from([8, 12, 16, 24]), min_size=1, max_size=3, unique=True),
        st.lists(st.sampled_from([1.5, 3.0]), min_size=1, max_size=2, unique=True),
    )
    return st.lists(own | st.just(FOLLOWING), min_size=1, max_size=3).map(space_of)


def space_of(groups: list[BlockGroup]) -> NetworkSpace:
    return NetworkSpace("drawn", 8, ConvSpec(8), groups, HeadSpec(16, num_classes=3))


def random_scores(chain: CostChain, seed: int, step: float = 0.0) -> list[Tensor]:
    """Gaussian, rounded to multiples of ``step`` if it is above 0, so that there are ties."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [
        torch.randn(len(link.values), dtype=torch.float64, generator=generator)
        for link in chain.links
    ]
    return [(own / step).round() * step for own in drawn] if step else drawn


def all_combinations(chain: CostChain) -> Tensor:
    """Every architecture, int64 [N, G]."""
    axes = [torch.arange(len(link.values)) for link in chain.links]
    return torch.cartesian_prod(*axes).reshape(-1, len(axes))


def totals(scores: list[Tensor], combinations: Tensor) -> Tensor:
    """The scores of combinations [N, G], float64 [N]."""
    return sum(own[chosen] for own, chosen in zip(scores, combinations.unbind(1), strict=True))
