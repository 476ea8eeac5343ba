"""Builds and configures what the zoo has."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from fpnas.config import CfgNode, find_config, get_cfg
from fpnas.data.preprocessing import set_preprocessing
from fpnas.errors import UserError
from fpnas.model_zoo.manifest import get_record, info
from fpnas.model_zoo.record import ZooRecord
from fpnas.model_zoo.weights import PREFIX, check_costs, get_checkpoint_file
from fpnas.modeling import SearchedBackbone, SearchedNet, load_pretrained

logger = logging.getLogger(__name__)


def get(
    name: str,
    pretrained: bool = False,
    num_classes: int | None = None,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    *,
    in_channels: int | None = None,
    out_features: Sequence[str] | str = (),
) -> SearchedNet | SearchedBackbone:
    """``name`` as a network, in training mode.

    Args:
        name: one of :func:`list_models`.
        pretrained: with the published weights; fetched, verified and cached if need be.
        num_classes: outputs; None keeps those of the weights or the architecture. With another
            number than that of the weights, the classifier is fresh and all else pretrained.
        dropout, drop_path: as those of SearchedNet.
        in_channels: of the image; None keeps the architecture's own. With another number than that
            of the weights, the stem is adapted.
        out_features: names of stages, or ("auto",): a backbone that returns their feature maps, in
            place of a classifier.

    What is dropped from published weights or adapted is logged as a warning.

    Raises UnknownNameError on an unknown name, ConfigError on stages that it does not have and on
    probabilities outside [0, 1), UserError if there are no weights or they cannot be fetched,
    CheckpointError if they are not what their record says.
    """
    if out_features and (num_classes is not None or dropout):
        raise UserError("A backbone has no classifier: leave out num_classes and dropout.")
    arch = info(name).arch
    file = get_checkpoint_file(name) if pretrained else None
    if num_classes is not None:
        arch = arch.with_num_classes(num_classes)
    if in_channels is not None:
        arch = arch.with_in_channels(in_channels)
    model = SearchedNet(arch, dropout, drop_path)
    if out_features:
        model = SearchedBackbone(model, out_features)
    if file is not None:
        new = {"new_classes": num_classes is not None, "new_input": in_channels is not None}
        for note in load_pretrained(model, file, **new):
            logger.warning(note)
    return model


def get_config(name: str) -> CfgNode:
    """The config with which ``name`` is trained, evaluated or fine-tuned.

    Of a published model: its recipe, with MODEL.ARCH, MODEL.WEIGHTS ("zoo://name") and the DATA
    keys of its preprocessing. Of an architecture: the defaults with MODEL.ARCH and
    DATA.INPUT_SIZE. Of a shipped config (``"quick/train.yaml"``): that config.
    """
    cfg = get_cfg()
    if name.endswith((".yaml", ".yml")):
        cfg.merge_from_file(find_config(name))
        return cfg
    found = info(name)
    if found.record is None:
        cfg.MODEL.ARCH, cfg.DATA.INPUT_SIZE = name, found.arch.input_size
        return cfg
    check_costs(found.record)
    if found.record.recipe is None:
        cfg.DATA.NAME = "image_folder"
    else:
        cfg.merge_from_file(find_config(found.record.recipe))
    start_from(cfg, found.record)
    cfg.MODEL.NUM_CLASSES = found.arch.num_classes
    return cfg


def start_from(cfg: CfgNode, record: ZooRecord) -> None:
    """Set MODEL.ARCH, MODEL.WEIGHTS ("zoo://name") and the DATA keys of the preprocessing."""
    cfg.MODEL.ARCH, cfg.MODEL.WEIGHTS = record.architecture, f"{PREFIX}{record.name}"
    set_preprocessing(cfg, record.preprocessing)


def get_config_file(name: str) -> Path:
    """The file of the recipe that trained ``name``, or of a shipped config.

    Raises UserError if the weights come from elsewhere, UnknownNameError on an unknown name.
    """
    if name.endswith((".yaml", ".yml")):
        return find_config(name)
    record = get_record(name)
    if record.recipe is None:
        raise UserError(
            f"'{name}' was not trained with a config of ours ({record.source}); "
            f"model_zoo.get_config('{name}') gives one to evaluate or fine-tune it."
        )
    return find_config(record.recipe)
