"""Refuses to take the weights that a training started from for those that it ended with."""

from __future__ import annotations

import argparse
from pathlib import Path

from fpnas.config import CfgNode, find_config, get_cfg
from fpnas.errors import UserError


def check_weights_are_final(args: argparse.Namespace, cfg: CfgNode) -> None:
    """Raise UserError if a training left a model_final.pth that MODEL.WEIGHTS does not name.

    It is looked for in the folder of ``args.config_file`` and in the OUTPUT_DIR of that file, whose
    MODEL.WEIGHTS is what the training started from. Weights that stand on the command line, in
    ``args.weights`` or ``args.opts``, are meant.
    """
    if not args.config_file or getattr(args, "weights", None) or "MODEL.WEIGHTS" in args.opts[0::2]:
        return
    file = find_config(args.config_file)
    training = get_cfg()
    training.merge_from_file(file)
    for folder in (file.parent, Path(training.OUTPUT_DIR)):
        final = folder / "model_final.pth"
        if final.is_file() and final.resolve() != Path(cfg.MODEL.WEIGHTS).resolve():
            start = cfg.MODEL.WEIGHTS
            found = f"is '{start}', which its training started from" if start else "is empty"
            raise UserError(
                f"MODEL.WEIGHTS of '{args.config_file}' {found}; it ended with '{final}'. Say "
                f"which is meant, after all flags: MODEL.WEIGHTS {final}"
            )
