"""Search spaces: what may be searched, its size and its cost."""

from fpnas.spaces import paper, small  # noqa: F401  (they register their spaces)
from fpnas.spaces.block_group import BlockGroup
from fpnas.spaces.cost_table import CostTable
from fpnas.spaces.network import AROUND, SPACE_REGISTRY, NetworkSpace, build_space, get_space
from fpnas.spaces.paper import PAPER_FIGURES, PaperFigures
from fpnas.spaces.space import SearchSpace, SearchVariable, VariableGroup

__all__ = [
    "AROUND",
    "PAPER_FIGURES",
    "SPACE_REGISTRY",
    "BlockGroup",
    "CostTable",
    "NetworkSpace",
    "PaperFigures",
    "SearchSpace",
    "SearchVariable",
    "VariableGroup",
    "build_space",
    "get_space",
]
