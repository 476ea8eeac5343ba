"""The training of a detector: from a config to figures, with all files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fpnas.config import CfgNode
from fpnas.engine import check_setup
from fpnas.errors import CheckpointError
from fpnas.training import ModelTrainer
from fpnas.training.fit import Task, fit
from fpnas_detection.backbones import build_backbone
from fpnas_detection.data import AugmentedSet, Target, collate, fingerprint
from fpnas_detection.evaluate import evaluate
from fpnas_detection.models import build_detector
from fpnas_detection.readers import read_data
from fpnas_tasks.training import build_parts, initial_model


@dataclass(frozen=True)
class Classes:
    """What stands in every checkpoint: the names of the classes."""

    names: tuple[str, ...]

    def to_dict(self) -> dict[str, list[str]]:
        """The key of a checkpoint."""
        return {"detection_classes": list(self.names)}

    def check_contents(self, contents: Mapping[str, Any], source: str) -> None:
        """Raise CheckpointError if the checkpoint ``source`` is of other classes."""
        ours = list(self.names)
        if contents.get("detection_classes", ours) != ours:
            raise CheckpointError(
                f"'{source}' was trained on the classes {contents['detection_classes']}, the data "
                f"has {ours}."
            )


class DetectionTrainer(ModelTrainer):
    """Trains a detector of torchvision, which in training mode returns its losses.

    A step puts "loss", each of its terms as "loss_NAME", "grad_norm" and "data_time"; see
    :class:`fpnas.training.ModelTrainer`.
    """

    def batch_loss(self, batch: tuple[Tensor, list[Target]]) -> tuple[Tensor, dict[str, Tensor]]:
        images, targets = batch
        there = [
            {name: value.to(self.device) for name, value in target.items()} for target in targets
        ]
        losses = self.model(list(images.to(self.device)), there)
        loss = torch.stack(list(losses.values())).sum()
        terms = {f"loss_{name.removeprefix('loss_')}": v.detach() for name, v in losses.items()}
        return loss, {"loss": loss.detach(), **terms}


def run_training(
    cfg: CfgNode, resume: bool = False, allow_changes: bool = False
) -> dict[str, float]:
    """Train the detector of ``cfg`` and return the figures of its last evaluation.

    Writes into OUTPUT_DIR config.yaml, log.txt, metrics.json, checkpoints and result.yaml (what is
    returned). A resumed run ends with the same bits as one that was never stopped; ResumeError if
    it is of another config or of other images, unless ``allow_changes``, which the log then lists.

    Returns "map", "map50" and so on (see :func:`fpnas_detection.evaluate.coco_scores`) after the
    last step, "best_map50" and "best_iteration" of model_best.pth.

    Raises a UserError on wrong input, before anything is written.
    """
    check_setup(cfg)
    keys = cfg.DETECTION
    train_set = read_data(cfg, keys.TRAIN_SPLIT, keys.CLASSES)
    val_set = read_data(cfg, keys.VAL_SPLIT, train_set.classes)
    model, notes = _initial_model(cfg, len(train_set.classes), resume)
    parts = build_parts(
        cfg,
        model,
        DetectionTrainer,
        AugmentedSet(train_set, cfg),
        collate,
        test=lambda network: evaluate(network, val_set, cfg.DATA.INPUT_SIZE),
    )
    task = Task(
        "detection",
        lambda: fingerprint(cfg.DATA.ROOT, train=train_set, val=val_set),
        lambda: parts,
        split="val",
        metric="map50",
        shown=("val_map50", "val_map"),
        about=Classes(train_set.classes),
        data=f"{len(train_set)} training and {len(val_set)} validation images, classes: "
        f"{', '.join(train_set.classes)}",
        notes=notes,
    )
    return fit(cfg, task, resume, allow_changes)


def _initial_model(cfg: CfgNode, num_classes: int, resume: bool) -> tuple[nn.Module, list[str]]:
    return initial_model(
        cfg, resume, build_backbone, lambda backbone: build_detector(cfg, num_classes, backbone)
    )
