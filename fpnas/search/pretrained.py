"""A search that starts from a trained network: its space, and that network on the user's images.

The space lies around the network's architecture. The whole network is fine-tuned on the training
half first, as :func:`fpnas.training.run_training` does it; the supernet then starts with its
weights, and its smaller networks learn from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fpnas.archs import get_arch
from fpnas.config import CfgNode, find_config, get_cfg
from fpnas.config.checks import check_value
from fpnas.data import ImageSet
from fpnas.errors import ConfigError
from fpnas.modeling import SearchedNet
from fpnas.spaces import AROUND, NetworkSpace, build_space
from fpnas.training.artifact import describe_weights, described_arch, load_network
from fpnas.training.run import train_on
from fpnas.training.trainer import placed

#: In OUTPUT_DIR: the training of the whole network.
FULL = "full"
_FINE_TUNING = "quick/finetune.yaml"
#: SEARCH.SPACE around MODEL.ARCH, or the architecture of MODEL.WEIGHTS.
AROUND_MODEL = AROUND.removesuffix(":")


def search_space(cfg: CfgNode) -> NetworkSpace:
    """The space that SEARCH.SPACE names.

    Raises as :func:`fpnas.spaces.build_space`, ConfigError if there is nothing to lie around, or
    weights do not share as those of a trained network must.
    """
    if cfg.SEARCH.SPACE == AROUND_MODEL:
        if not cfg.MODEL.ARCH and not cfg.MODEL.WEIGHTS:
            raise ConfigError(
                "SEARCH.SPACE 'around' lies around MODEL.ARCH or the architecture of "
                "MODEL.WEIGHTS; both are empty. Give a network that is to become smaller: "
                "fpnas search --model efficientnet_lite0 DATA.ROOT photos"
            )
        known = cfg.MODEL.ARCH
        space = NetworkSpace.around(get_arch(known) if known else described_arch(cfg.MODEL.WEIGHTS))
    else:
        space = build_space(cfg)
    if starts_from_network(cfg, space):
        check_value("SEARCH.SHARING", cfg.SEARCH.SHARING, cfg.SEARCH.SHARING == "all", "'all'")
        probabilistic = cfg.SEARCH.METHOD == "probabilistic"
        check_value("SEARCH.METHOD", cfg.SEARCH.METHOD, probabilistic, "'probabilistic'")
    return space


def starts_from_network(cfg: CfgNode, space: NetworkSpace) -> bool:
    """Whether MODEL.WEIGHTS are those of the architecture around which ``space`` lies."""
    return space.origin is not None and bool(cfg.MODEL.WEIGHTS)


def check_origin(cfg: CfgNode, space: NetworkSpace) -> None:
    """Raise CheckpointError if MODEL.WEIGHTS are of another architecture than the space's origin.

    Weights that do not describe themselves are taken at their word.
    """
    about = describe_weights(cfg.MODEL.WEIGHTS)
    if about is not None:
        origin = space.origin.with_num_classes(about.arch.num_classes)
        about.check_same_network(origin, cfg.MODEL.WEIGHTS)


def full_network(
    cfg: CfgNode,
    train_half: ImageSet,
    val_half: ImageSet,
    resume: bool = False,
    allow_changes: bool = False,
) -> SearchedNet:
    """The whole network, in eval mode, for the classes of the data. Collective.

    Weights that know these classes are taken as they are. Others are fine-tuned for
    SEARCH.FULL_EPOCHS on the training half, in the folder ``full`` of OUTPUT_DIR, where an
    interrupted training goes on with ``resume``; the validation half judges it.
    """
    weights = teacher_weights(cfg, train_half.classes)
    if weights != cfg.MODEL.WEIGHTS:
        own = _fine_tuning(cfg)
        train_on(own, train_half, val_half, resume=resume, allow_changes=allow_changes)
    own = get_cfg()
    own.MODEL.WEIGHTS = weights
    return placed(load_network(own).model, cfg)


def teacher_weights(cfg: CfgNode, classes: Sequence[str]) -> str:
    """The file of the whole network for ``classes``: MODEL.WEIGHTS, or what its training leaves."""
    about = describe_weights(cfg.MODEL.WEIGHTS)
    if about is not None and tuple(about.classes) == tuple(classes):
        return cfg.MODEL.WEIGHTS
    return str(Path(cfg.OUTPUT_DIR) / FULL / "model_final.pth")


def _fine_tuning(cfg: CfgNode) -> CfgNode:
    """The config of the whole network's training: the recipe, on the data of the search."""
    own = get_cfg()
    own.merge_from_file(find_config(_FINE_TUNING))
    for part in ("DATA", "TEST", "CHECKPOINT", "LOG"):
        own[part] = cfg[part].clone()
    for key in ("CHANNELS_LAST", "AMP"):
        own.SOLVER[key] = cfg.SOLVER[key]
    space = cfg.SEARCH.SPACE
    named = space.startswith(AROUND)
    own.MODEL.ARCH = space.removeprefix(AROUND) if named else cfg.MODEL.ARCH
    own.MODEL.WEIGHTS = cfg.MODEL.WEIGHTS
    # Smaller networks need statistics of their own, with which weights must have learned to live.
    own.MODEL.NORM = "BN"
    own.SOLVER.EPOCHS = epochs = cfg.SEARCH.FULL_EPOCHS
    if epochs:
        own.SOLVER.LR_WARMUP_EPOCHS = min(own.SOLVER.LR_WARMUP_EPOCHS, epochs / 4)
    own.SEED = cfg.SEED
    own.OUTPUT_DIR = str(Path(cfg.OUTPUT_DIR) / FULL)
    own.freeze()
    return own
