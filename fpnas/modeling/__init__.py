"""Networks: a searched architecture on its own, its stages, and the supernet of a space."""

from fpnas.modeling.backbone import FeatureInfo, SearchedBackbone, ShapeSpec, dilate, last_stages
from fpnas.modeling.build import build_model, fresh_classifier, load_pretrained
from fpnas.modeling.channel_order import magnitudes, taylor_scores
from fpnas.modeling.norm import convert_norm, freeze, recalibrate_bn
from fpnas.modeling.pretrained import pretrained_supernet
from fpnas.modeling.searched_net import SearchedNet
from fpnas.modeling.supernet import SHARING, SuperNet
from fpnas.modeling.weight_store import TouchedWeight, WeightStore

__all__ = [
    "SHARING",
    "FeatureInfo",
    "SearchedBackbone",
    "SearchedNet",
    "ShapeSpec",
    "SuperNet",
    "TouchedWeight",
    "WeightStore",
    "build_model",
    "convert_norm",
    "dilate",
    "freeze",
    "fresh_classifier",
    "last_stages",
    "load_pretrained",
    "magnitudes",
    "pretrained_supernet",
    "recalibrate_bn",
    "taylor_scores",
]
