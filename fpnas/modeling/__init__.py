"""Networks: a searched architecture on its own, and the supernet of a space."""

from fpnas.modeling.build import build_model
from fpnas.modeling.recalibrate import recalibrate_bn
from fpnas.modeling.searched_net import SearchedNet
from fpnas.modeling.supernet import SHARING, SuperNet
from fpnas.modeling.weight_store import TouchedWeight, WeightStore

__all__ = [
    "SHARING",
    "SearchedNet",
    "SuperNet",
    "TouchedWeight",
    "WeightStore",
    "build_model",
    "recalibrate_bn",
]
