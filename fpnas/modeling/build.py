"""From a config to a network."""

from __future__ import annotations

import logging

from fpnas.archs import Architecture, get_arch
from fpnas.config import CfgNode
from fpnas.config.checks import check_value
from fpnas.errors import ConfigError
from fpnas.modeling.backbone import SearchedBackbone
from fpnas.modeling.norm import convert_norm, freeze
from fpnas.modeling.pretrained import load_pretrained
from fpnas.modeling.searched_net import SearchedNet
from fpnas.utils import comm

logger = logging.getLogger(__name__)


def build_model(cfg: CfgNode) -> SearchedNet | SearchedBackbone:
    """The network of ``cfg.MODEL``, with the weights of ``MODEL.WEIGHTS`` if there are any.

    A classifier, or with ``MODEL.OUT_FEATURES`` a backbone, which reads no key about classes.
    ``MODEL.NUM_CLASSES = 0`` and ``MODEL.IN_CHANNELS = 0`` keep the architecture's own numbers, and
    the weights must have these, too. A number that is given may differ from that of the weights:
    the classifier is then fresh, the stem adapted, and a warning lists what was dropped.

    Raises ConfigError without ``MODEL.ARCH`` and on unusable keys, UnknownNameError on an unknown
    architecture, CheckpointError on weights that do not fit otherwise.
    """
    model = _build(cfg)
    if cfg.MODEL.WEIGHTS:
        notes = load_pretrained(
            model,
            cfg.MODEL.WEIGHTS,
            new_classes=cfg.MODEL.NUM_CLASSES > 0,
            new_input=cfg.MODEL.IN_CHANNELS > 0,
        )
        for note in notes:
            logger.warning(note)
    return model


def fresh_classifier(cfg: CfgNode, arch: Architecture | None = None) -> SearchedNet:
    """The classifier of ``cfg.MODEL`` for RGB images, without the weights of ``MODEL.WEIGHTS``.

    For those who load weights in their own way: a training may adapt them, an evaluation must not.
    ``arch``, of weights that know their own, stands in for MODEL.ARCH.

    Raises as :func:`build_model`, and ConfigError on keys that make something else of the network.
    """
    check_value(
        "MODEL.OUT_FEATURES", cfg.MODEL.OUT_FEATURES, not cfg.MODEL.OUT_FEATURES,
        "() for a classifier; a backbone comes from build_model",
    )  # fmt: skip
    model = _build(cfg, arch)
    check_value(
        "MODEL.IN_CHANNELS", model.arch.in_channels, model.arch.in_channels == 3,
        "3, the channels of the images of every data set",
    )  # fmt: skip
    if cfg.MODEL.NORM == "SyncBN" and comm.get_world_size() > 1:
        device = comm.get_device().type
        check_value("MODEL.NORM", "SyncBN", device != "cpu", "'BN' or 'FrozenBN' on CPUs")
    return model


def _build(cfg: CfgNode, arch: Architecture | None = None) -> SearchedNet | SearchedBackbone:
    """The network with fresh weights."""
    keys = cfg.MODEL
    if arch is None and not keys.ARCH:
        raise ConfigError(
            "MODEL.ARCH is empty; give a name from `fpnas zoo list` or an architecture's YAML file."
        )
    for key in ("NUM_CLASSES", "IN_CHANNELS", "OUTPUT_STRIDE"):
        check_value(f"MODEL.{key}", keys[key], keys[key] >= 0, "0 or more")
    arch = get_arch(keys.ARCH) if arch is None else arch
    if keys.NUM_CLASSES:
        arch = arch.with_num_classes(keys.NUM_CLASSES)
    if keys.IN_CHANNELS:
        arch = arch.with_in_channels(keys.IN_CHANNELS)
    model = SearchedNet(arch, dropout=keys.DROPOUT, drop_path=keys.DROP_PATH)
    if keys.OUT_FEATURES:
        model = SearchedBackbone(model, keys.OUT_FEATURES, keys.OUTPUT_STRIDE)
    elif keys.OUTPUT_STRIDE:
        raise ConfigError(
            f"MODEL.OUTPUT_STRIDE is {keys.OUTPUT_STRIDE}, but MODEL.OUT_FEATURES is empty: only "
            "backbones are dilated. Valid for a classifier: 0."
        )
    freeze(model, keys.FREEZE_STAGES)
    convert_norm(model, keys.NORM)
    return model
