"""From a config to a network."""

from __future__ import annotations

from fpnas.archs import get_arch
from fpnas.config import CfgNode
from fpnas.errors import ConfigError
from fpnas.modeling.searched_net import SearchedNet
from fpnas.utils.checkpoint import load_weights


def build_model(cfg: CfgNode) -> SearchedNet:
    """The network of ``cfg.MODEL``, with the weights of ``MODEL.WEIGHTS`` if there are any.

    ``MODEL.NUM_CLASSES = 0`` keeps the architecture's own number of outputs. Raises ConfigError
    without ``MODEL.ARCH``, UnknownNameError on an unknown one, CheckpointError on weights that do
    not fit.
    """
    if not cfg.MODEL.ARCH:
        raise ConfigError(
            "MODEL.ARCH is empty; give a name from `fpnas zoo list` or an architecture's YAML file."
        )
    arch = get_arch(cfg.MODEL.ARCH)
    if cfg.MODEL.NUM_CLASSES:
        arch = arch.with_num_classes(cfg.MODEL.NUM_CLASSES)
    model = SearchedNet(arch, dropout=cfg.MODEL.DROPOUT, drop_path=cfg.MODEL.DROP_PATH)
    if cfg.MODEL.WEIGHTS:
        load_weights(model, cfg.MODEL.WEIGHTS)
    return model
