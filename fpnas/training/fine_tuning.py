"""How long a fine-tuning takes, and in which batches: from the number of training images."""

from __future__ import annotations

import logging
import math

from fpnas.config import CfgNode
from fpnas.utils import comm

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
    """
    if cfg.SOLVER.EPOCHS and cfg.SOLVER.BATCH_SIZE:
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    solver = cfg.SOLVER
    if not solver.BATCH_SIZE:
        solver.BATCH_SIZE = batch_size_for(num_images, comm.get_world_size())
        solver.LR *= solver.BATCH_SIZE / REFERENCE_BATCH
    if not solver.EPOCHS:
        solver.EPOCHS = epochs_for(num_images, solver.BATCH_SIZE)
    logger.info(
        "Fine-tuning on %d images: SOLVER.BATCH_SIZE %d, SOLVER.LR %g, SOLVER.EPOCHS %d",
        *(num_images, solver.BATCH_SIZE, solver.LR, solver.EPOCHS),
    )
    cfg.freeze()
    return cfg
