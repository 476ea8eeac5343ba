"""The training of a segmenter: from a config to figures; and what it leaves, loaded again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from fpnas.config import CfgNode
from fpnas.engine import check_setup
from fpnas.errors import CheckpointError
from fpnas.training import ModelTrainer
from fpnas.training.fit import Task, fit
from fpnas.utils.checkpoint import read_checkpoint
from fpnas_segmentation.config import check_config, get_segmentation_cfg
from fpnas_segmentation.data import IGNORED, AugmentedSet, collate, fingerprint, read_split
from fpnas_segmentation.evaluate import evaluate
from fpnas_segmentation.model import Segmenter, build_backbone
from fpnas_tasks.training import build_parts, initial_model, stored_cfg, trained


class SegmentationTrainer(ModelTrainer):
    """Trains by the cross entropy of a pixel, mean over those of the batch that count."""

    def batch_loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        images, masks = (part.to(self.device) for part in batch)
        logits = self.model(images)
        total = F.cross_entropy(logits, masks, ignore_index=IGNORED, reduction="sum")
        loss = total / (masks != IGNORED).sum().clamp(min=1)
        return loss, {"loss": loss.detach()}


def run_training(
    cfg: CfgNode, resume: bool = False, allow_changes: bool = False
) -> dict[str, float]:
    """Train the segmenter of ``cfg`` and return the figures of its last evaluation.

    Writes into OUTPUT_DIR config.yaml, log.txt, metrics.json, checkpoints and result.yaml (what is
    returned). A resumed run ends with the same bits as one that was never stopped; ResumeError if
    it is of another config or of other images, unless ``allow_changes``, which the log then lists.

    Returns what :func:`fpnas_segmentation.evaluate.iou_scores` says after the last step,
    "best_miou" and "best_iteration" of model_best.pth. Raises a UserError on wrong input, before
    anything is written.
    """
    check_setup(cfg)
    keys = cfg.SEGMENTATION
    train_set, val_set = (read_split(cfg, split) for split in (keys.TRAIN_SPLIT, keys.VAL_SPLIT))
    model, notes = _initial_model(cfg, resume)
    classes = tuple(keys.CLASSES)
    parts = build_parts(
        cfg,
        model,
        SegmentationTrainer,
        AugmentedSet(train_set, cfg),
        collate,
        test=lambda network: evaluate(network, val_set, cfg.DATA.INPUT_SIZE, classes),
    )
    task = Task(
        "segmentation",
        lambda: fingerprint(cfg, train=train_set, val=val_set),
        lambda: parts,
        split="val",
        metric="miou",
        shown=("val_miou",),
        data=f"{len(train_set)} training and {len(val_set)} validation images",
        notes=notes,
    )
    return fit(cfg, task, resume, allow_changes)


def _initial_model(cfg: CfgNode, resume: bool) -> tuple[nn.Module, list[str]]:
    return initial_model(cfg, resume, build_backbone, lambda backbone: Segmenter(cfg, backbone))


@dataclass(frozen=True)
class TrainedSegmenter:
    """A segmenter in eval mode and its config."""

    model: Segmenter
    cfg: CfgNode

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by number."""
        return tuple(self.cfg.SEGMENTATION.CLASSES)


def load_segmenter(path: str | Path, overrides: list[str] | None = None) -> TrainedSegmenter:
    """The segmenter in a checkpoint of a training, such as ``model_final.pth``.

    ``overrides``: KEY VALUE pairs on top of its config, such as ``["DATA.ROOT", "masks"]``.

    Raises CheckpointError if it is no checkpoint of a segmenter, ConfigError on unusable overrides.
    """
    contents = read_checkpoint(path)
    if "SEGMENTATION" not in CfgNode.load_cfg(contents.get("config", "{}")):
        raise CheckpointError(f"'{path}' is no checkpoint of a segmenter.")
    cfg = stored_cfg(contents, get_segmentation_cfg(), check_config, overrides)
    return TrainedSegmenter(trained(Segmenter(cfg), path), cfg)
