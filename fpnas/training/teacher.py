"""The teacher of a distillation."""

from __future__ import annotations

from fpnas.archs import get_arch
from fpnas.config import CfgNode
from fpnas.errors import ConfigError
from fpnas.modeling import SearchedNet
from fpnas.utils.checkpoint import load_weights


def build_teacher(cfg: CfgNode, num_classes: int) -> SearchedNet | None:
    """The trained network of ``cfg.SOLVER.DISTILL``, or None if there is to be no distillation.

    Raises ConfigError if only one of ARCH and WEIGHTS is given, UnknownNameError on an unknown
    ARCH, CheckpointError if the weights do not fit it with ``num_classes`` outputs.
    """
    arch, weights = cfg.SOLVER.DISTILL.ARCH, cfg.SOLVER.DISTILL.WEIGHTS
    if not arch and not weights:
        return None
    if not weights:
        raise ConfigError(
            f"SOLVER.DISTILL.ARCH is '{arch}', but SOLVER.DISTILL.WEIGHTS is empty: a teacher must "
            "be trained. Give its checkpoint (.pth or .safetensors)."
        )
    if not arch:
        raise ConfigError(
            f"SOLVER.DISTILL.WEIGHTS is '{weights}', but SOLVER.DISTILL.ARCH is empty. Give the "
            "teacher's architecture: a name or a YAML file."
        )
    teacher = SearchedNet(get_arch(arch).with_num_classes(num_classes))
    load_weights(teacher, weights)
    return teacher
