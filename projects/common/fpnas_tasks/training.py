"""The parts of a training that follow from the config, and its result loaded again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from fpnas.config import CfgNode
from fpnas.data.streaming import SampleBatches
from fpnas.engine import has_checkpoint
from fpnas.modeling import load_pretrained
from fpnas.solver import build_ema, build_optimizer
from fpnas.training import ModelTrainer, normalisation_notes
from fpnas.training.fit import Parts
from fpnas.training.trainer import placed
from fpnas.utils import comm
from fpnas.utils.checkpoint import load_weights
from fpnas.utils.rng import derive_seed


def initial_model(
    cfg: CfgNode,
    resume: bool,
    build_backbone: Callable[[CfgNode], nn.Module],
    build_model: Callable[[nn.Module], nn.Module],
) -> tuple[nn.Module, list[str]]:
    """The model before the first step, and notes on the weights of its backbone."""
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(cfg.SEED, "weights"))
        backbone = build_backbone(without_weights(cfg))
        # A resumed run has its weights from its checkpoint, and their first file may be gone.
        weights = "" if has_checkpoint(cfg, resume) else cfg.MODEL.WEIGHTS
        notes = load_pretrained(backbone, weights) + normalisation_notes(cfg) if weights else []
        return build_model(backbone), notes


def augmentation(
    cfg: CfgNode, keys: CfgNode, fill: Mapping[Any, Any], *last: v2.Transform
) -> v2.Compose:
    """What the keys of :func:`fpnas_tasks.config.task_cfg` ask for, by torchvision's transforms v2.

    Flips, changes colours, zooms and resizes; draws from torch's global generator. Images are made
    squares of S whatever their shape, as SSD has it: that spends all of the pixels on the image.

    Args:
        cfg: DATA is read.
        keys: the section of the task.
        fill: what lies around a shrunken image in what is no image, by type of tv_tensors; in
            images that is the mean colour, which is 0 for the network.
        last: before images, uint8, become float32 in [0, 1].
    """
    side = cfg.DATA.INPUT_SIZE
    fill = {tv_tensors.Image: [round(255 * mean) for mean in cfg.DATA.MEAN], **fill}
    return v2.Compose(
        [
            v2.Resize((side, side), antialias=True),
            v2.RandomHorizontalFlip(cfg.DATA.AUGMENT.HFLIP),
            v2.RandomVerticalFlip(keys.VFLIP),
            v2.RandomPhotometricDistort(p=keys.PHOTOMETRIC),
            v2.ScaleJitter((side, side), scale_range=keys.ZOOM, antialias=True),
            v2.RandomCrop((side, side), pad_if_needed=True, fill=fill),
            *last,
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
        ]
    )


def build_parts(
    cfg: CfgNode,
    model: nn.Module,
    trainer: type[ModelTrainer],
    samples: Sequence[Any],
    collate: Callable[[list[Any]], Any],
    test: Callable[[nn.Module], Mapping[str, float]],
) -> Parts:
    """Trainer and data. ConfigError if there are fewer ``samples`` than SOLVER.BATCH_SIZE."""
    solver = cfg.SOLVER
    batches = SampleBatches(samples, collate, solver.BATCH_SIZE, cfg.SEED, cfg.DATA.NUM_WORKERS)
    model = placed(model, cfg)
    made = trainer(
        model,
        build_optimizer(cfg, model),
        batches,
        ema=build_ema(model, solver.EMA_DECAY) if solver.EMA_DECAY else None,
        clip_grad_norm=solver.CLIP_GRAD_NORM,
    )
    return Parts(made, len(batches), test)


def stored_cfg(
    contents: Mapping[str, Any],
    cfg: CfgNode,
    check: Callable[[CfgNode], None],
    overrides: list[str] | None,
) -> CfgNode:
    """The config in a checkpoint's ``contents`` with KEY VALUE ``overrides``, checked and frozen.

    ``cfg``: the defaults, to change. Without MODEL.WEIGHTS: the checkpoint has them.
    """
    cfg.merge_from_other_cfg(CfgNode.load_cfg(contents["config"]))
    cfg.merge_from_list(overrides or [])
    check(cfg)
    cfg = without_weights(cfg)
    cfg.freeze()
    return cfg


def trained(model: nn.Module, path: str | Path) -> nn.Module:
    """``model`` with the weights of a checkpoint, in eval mode on the device of this process."""
    load_weights(model, path)
    return model.to(comm.get_device()).eval()


def without_weights(cfg: CfgNode) -> CfgNode:
    """A copy of ``cfg`` with an empty MODEL.WEIGHTS, not frozen."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = ""
    return cfg
