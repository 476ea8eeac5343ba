"""How long a search from a trained network takes: from the number of images."""

from __future__ import annotations

import logging
import math

from fpnas.config import CfgNode
from fpnas.training.fine_tuning import REFERENCE_BATCH, batch_size_for
from fpnas.utils import comm

logger = logging.getLogger(__name__)

# Passes in which the small networks learn, or more until they make so many steps.
_EPOCHS, _MOST_EPOCHS, _LEAST_STEPS = 6, 24, 240
# Architectures that are rated, on so many images each.
_RATINGS = 480
_RATED_ON = 128


def has_open_lengths(cfg: CfgNode) -> bool:
    """Whether one of the numbers that :func:`with_search_length` knows is 0."""
    return not (cfg.SOLVER.EPOCHS and cfg.SOLVER.BATCH_SIZE and cfg.SEARCH.VAL_BATCH_SIZE)


def with_search_length(cfg: CfgNode, num_images: int) -> CfgNode:
    """``cfg``, or a copy of it with numbers that suit so many images in place of zeros.

    SOLVER.BATCH_SIZE 0: as in fine-tuning; LR is then meant for 32 images a step. SOLVER.EPOCHS 0:
    the length of the search, and with it SEARCH.WARMUP_EPOCHS. SEARCH.VAL_BATCH_SIZE 0: as many
    images as there are, up to 128.
    """
    if not has_open_lengths(cfg):
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    solver, search = cfg.SOLVER, cfg.SEARCH
    num_train = round(num_images * search.TRAIN_FRACTION)
    if not solver.BATCH_SIZE:
        solver.BATCH_SIZE = batch_size_for(num_train, comm.get_world_size())
        solver.LR *= solver.BATCH_SIZE / REFERENCE_BATCH
    if not search.VAL_BATCH_SIZE:
        search.VAL_BATCH_SIZE = max(min(_RATED_ON, num_images - num_train), 1)
    if not solver.EPOCHS:
        steps = max(num_train // solver.BATCH_SIZE, 1)
        learning = min(max(math.ceil(_LEAST_STEPS / steps), _EPOCHS), _MOST_EPOCHS)
        search.WARMUP_EPOCHS = float(learning)
        rating_steps = math.ceil(_RATINGS / search.NUM_SAMPLES) * (len(search.TARGETS) or 1)
        solver.EPOCHS = learning + math.ceil(rating_steps / steps)
    logger.info(
        "Searching on %d images: SOLVER.BATCH_SIZE %d, SOLVER.LR %g, SOLVER.EPOCHS %d, of which "
        "SEARCH.WARMUP_EPOCHS %g, SEARCH.VAL_BATCH_SIZE %d",
        *(num_images, solver.BATCH_SIZE, solver.LR, solver.EPOCHS, search.WARMUP_EPOCHS),
        search.VAL_BATCH_SIZE,
    )
    cfg.freeze()
    return cfg
