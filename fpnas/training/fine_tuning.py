"""What a fine-tuning starts from, and how long it takes: from weights and the number of images."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import torch

from fpnas.archs import Architecture, get_arch
from fpnas.config import CfgNode
from fpnas.data import preprocessing
from fpnas.engine import has_checkpoint
from fpnas.modeling import SearchedNet, fresh_classifier, load_pretrained
from fpnas.training.artifact import describe_weights, described_arch, with_num_classes
from fpnas.utils import comm
from fpnas.utils.rng import derive_seed

logger = logging.getLogger(__name__)

#: Images a step for which SOLVER.LR of a fine-tuning is meant.
REFERENCE_BATCH = 32
# A step of fewer images is noisier, but few images in large batches make too few steps to learn.
_SMALL_BATCH = 16
_FEW_IMAGES = 1000
_LEAST_STEPS_AN_EPOCH = 4
# As many steps at least, unless that takes too many passes over the same few images.
_LEAST_STEPS = 400
_EPOCHS = (10, 40)


def initial_network(cfg: CfgNode, num_classes: int, resume: bool) -> tuple[SearchedNet, list[str]]:
    """The classifier of a training before its first step, and notes on its weights, for the log.

    The same in every process. Without MODEL.ARCH the architecture is that of MODEL.WEIGHTS. Weights
    of another number of classes get a fresh classifier.
    """
    goes_on = has_checkpoint(cfg, resume)
    arch = None if cfg.MODEL.ARCH else _known_arch(cfg, goes_on)
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(cfg.SEED, "weights"))
        model = fresh_classifier(with_num_classes(cfg, num_classes), arch)
    if goes_on or not cfg.MODEL.WEIGHTS:
        return model, []  # a checkpoint has them, and the file may be gone by now
    notes = load_pretrained(model, cfg.MODEL.WEIGHTS, new_classes=True)
    notes += normalisation_notes(cfg)
    if arch is not None and arch.input_size != cfg.DATA.INPUT_SIZE:  # nobody has chosen it for arch
        notes.append(
            f"{cfg.MODEL.WEIGHTS} is a network for DATA.INPUT_SIZE {arch.input_size}, this run has "
            f"{cfg.DATA.INPUT_SIZE}"
        )
    return model, notes


def _known_arch(cfg: CfgNode, goes_on: bool) -> Architecture | None:
    """What stands in for MODEL.ARCH: of the run itself, or of its weights; None without weights."""
    own = Path(cfg.OUTPUT_DIR) / "architecture.yaml"
    if goes_on and own.is_file():
        return get_arch(str(own))
    return described_arch(cfg.MODEL.WEIGHTS) if cfg.MODEL.WEIGHTS else None


def normalisation_notes(cfg: CfgNode) -> list[str]:
    """Which of DATA.MEAN and DATA.STD differ from those of MODEL.WEIGHTS, a sentence each.

    For the caller to log. Empty without weights, and for files that do not say what they expect.
    Raises as :func:`fpnas.training.artifact.describe_weights`.
    """
    about = describe_weights(cfg.MODEL.WEIGHTS) if cfg.MODEL.WEIGHTS else None
    if about is None:
        return []
    theirs, ours = about.preprocessing, preprocessing(cfg)
    pairs = {"DATA.MEAN": (theirs.mean, ours.mean), "DATA.STD": (theirs.std, ours.std)}
    return [
        f"{cfg.MODEL.WEIGHTS} was trained with {key} {expected}, this run has {found}"
        for key, (expected, found) in pairs.items()
        if expected != found
    ]


def batch_size_for(num_images: int, world_size: int = 1) -> int:
    """Images a step over all processes: 32, 16 below 1,000 images, less where there are too few."""
    wanted = REFERENCE_BATCH if num_images >= _FEW_IMAGES else _SMALL_BATCH
    share = min(wanted, max(num_images // _LEAST_STEPS_AN_EPOCH, 2)) // world_size
    return max(share, 1) * world_size


def epochs_for(num_images: int, batch_size: int) -> int:
    """Passes over the images: 10, or up to 40 until they make 400 steps."""
    steps = max(num_images // batch_size, 1)
    least, most = _EPOCHS
    return min(max(math.ceil(_LEAST_STEPS / steps), least), most)


def with_length(cfg: CfgNode, num_images: int) -> CfgNode:
    """``cfg``, or a copy of it in which SOLVER.BATCH_SIZE, LR and EPOCHS stand in place of zeros.

    Where BATCH_SIZE is 0, LR changes in proportion to the batch (Goyal et al. 2017, section 2.1).
    MODEL.NORM "auto" becomes "FrozenBN" for weights that are trained on few images, whose
    statistics say little, else "BN".
    """
    if cfg.SOLVER.EPOCHS and cfg.SOLVER.BATCH_SIZE and cfg.MODEL.NORM != "auto":
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    solver = cfg.SOLVER
    if cfg.MODEL.NORM == "auto":
        freezes = bool(cfg.MODEL.WEIGHTS) and num_images < _FEW_IMAGES
        cfg.MODEL.NORM = "FrozenBN" if freezes else "BN"
    if not solver.BATCH_SIZE:
        solver.BATCH_SIZE = batch_size_for(num_images, comm.get_world_size())
        solver.LR *= solver.BATCH_SIZE / REFERENCE_BATCH
    if not solver.EPOCHS:
        solver.EPOCHS = epochs_for(num_images, solver.BATCH_SIZE)
    logger.info(
        "Fine-tuning on %d images: SOLVER.BATCH_SIZE %d, SOLVER.LR %g, SOLVER.EPOCHS %d, "
        "MODEL.NORM %s",
        *(num_images, solver.BATCH_SIZE, solver.LR, solver.EPOCHS, cfg.MODEL.NORM),
    )
    cfg.freeze()
    return cfg
