"""Whether images are normalised as those that the weights of a run were trained on."""

from __future__ import annotations

from fpnas.config import CfgNode
from fpnas.data import Preprocessing, preprocessing
from fpnas.training.artifact import Description
from fpnas.utils.checkpoint import read_checkpoint


def normalisation_notes(cfg: CfgNode) -> list[str]:
    """Which of DATA.MEAN and DATA.STD differ from those of MODEL.WEIGHTS, a sentence each.

    For the caller to log. Empty without weights, and for files that do not say what they expect.
    Raises as :func:`fpnas.utils.checkpoint.read_checkpoint`.
    """
    theirs = _preprocessing_of(cfg.MODEL.WEIGHTS) if cfg.MODEL.WEIGHTS else None
    if theirs is None:
        return []
    ours = preprocessing(cfg)
    pairs = {"DATA.MEAN": (theirs.mean, ours.mean), "DATA.STD": (theirs.std, ours.std)}
    return [
        f"{cfg.MODEL.WEIGHTS} was trained with {key} {expected}, this run has {found}"
        for key, (expected, found) in pairs.items()
        if expected != found
    ]


def _preprocessing_of(weights: str) -> Preprocessing | None:
    if weights.startswith("zoo://"):
        from fpnas.model_zoo import published_record  # nothing else here needs the zoo

        return published_record(weights).preprocessing
    description = Description.from_dict(read_checkpoint(weights), weights)
    return None if description is None else description.preprocessing
