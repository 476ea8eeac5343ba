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


def with_search_length(cfg: CfgNode, num_images: int) -> CfgNode:
    """``cfg``, or a copy of it with the length of the search in place of SOLVER.EPOCHS 0.

    Then SOLVER.BATCH_SIZE, LR (meant for 32 images a step), SEARCH.WARMUP_EPOCHS and
    VAL_BATCH_SIZE are set, too.
    """
    if cfg.SOLVER.EPOCHS:
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    solver, search = cfg.SOLVER, cfg.SEARCH
    num_train = round(num_images * search.TRAIN_FRACTION)
    solver.BATCH_SIZE = batch_size_for(num_train, comm.get_world_size())
    solver.LR *= solver.BATCH_SIZE / REFERENCE_BATCH
    steps = max(num_train // solver.BATCH_SIZE, 1)
    search.WARMUP_EPOCHS = float(min(max(math.ceil(_LEAST_STEPS / steps), _EPOCHS), _MOST_EPOCHS))
    budgets = len(search.TARGETS) or 1
    rating_steps = math.ceil(_RATINGS / search.NUM_SAMPLES) * budgets
    solver.EPOCHS = int(search.WARMUP_EPOCHS) + math.ceil(rating_steps / steps)
    search.VAL_BATCH_SIZE = min(_RATED_ON, num_images - num_train)
    logger.info(
        "Searching on %d images: SOLVER.BATCH_SIZE %d, SOLVER.LR %g, SOLVER.EPOCHS %d, of which "
        "SEARCH.WARMUP_EPOCHS %g, SEARCH.VAL_BATCH_SIZE %d",
        *(num_images, solver.BATCH_SIZE, solver.LR, solver.EPOCHS, search.WARMUP_EPOCHS),
        search.VAL_BATCH_SIZE,
    )
    cfg.freeze()
    return cfg
