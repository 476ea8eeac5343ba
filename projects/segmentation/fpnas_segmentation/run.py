"""A whole training: from a config to figures, with all files; and what it leaves, loaded again."""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from fpnas.config import CfgNode
from fpnas.data.sample_batches import SampleBatches
from fpnas.engine import BestCheckpointHook, begin_run, check_setup, default_setup, has_checkpoint
from fpnas.errors import CheckpointError
from fpnas.modeling import load_pretrained
from fpnas.solver import build_ema, build_optimizer
from fpnas.training import normalisation_notes, standard_hooks
from fpnas.utils import comm
from fpnas.utils.checkpoint import Checkpointer, load_weights, read_checkpoint
from fpnas.utils.file_io import atomic_write
from fpnas.utils.rng import derive_seed
from fpnas_segmentation.config import check_config, get_segmentation_cfg
from fpnas_segmentation.data import AugmentedSet, SegmentationSet, collate, fingerprint, read_split
from fpnas_segmentation.evaluate import evaluate
from fpnas_segmentation.model import Segmenter, build_backbone
from fpnas_segmentation.trainer import SegmentationTrainer

logger = logging.getLogger("fpnas.segmentation")

_VAL = "val_"


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
    trainer, iters_per_epoch = _build_trainer(cfg, model, train_set)
    run = begin_run(
        cfg,
        "segmentation",
        lambda: fingerprint(cfg, train=train_set, val=val_set),
        resume=resume,
        allow_changes=allow_changes,
    )
    checkpointer = Checkpointer(
        trainer.evaluated, cfg.OUTPUT_DIR, config=cfg.dump(), run=run.tag, trainer=trainer
    )
    best = BestCheckpointHook(checkpointer, f"{_VAL}miou")

    def test() -> dict[str, float]:
        scores = evaluate(trainer.evaluated, val_set, cfg.DATA.INPUT_SIZE, tuple(keys.CLASSES))
        return {f"{_VAL}{name}": value for name, value in scores.items()}

    trainer.register_hooks(
        standard_hooks(cfg, trainer, checkpointer, iters_per_epoch, test, best, [f"{_VAL}miou"])
    )
    checkpointer.resume_or_load("", resume=resume)
    default_setup(cfg, argparse.Namespace(resume=resume, allow_changes=allow_changes), run)
    for note in notes:  # not before: now they reach log.txt
        logger.warning(note)
    logger.info("%d training and %d validation images", len(train_set), len(val_set))
    torch.manual_seed(derive_seed(cfg.SEED, "training"))  # of dropped blocks in the backbone
    trainer.train(trainer.steps_done, cfg.SOLVER.EPOCHS * iters_per_epoch)

    latest = trainer.storage.latest().items()
    scores = {n.removeprefix(_VAL): value for n, (value, _) in latest if n.startswith(_VAL)}
    result = {**scores, "best_miou": best.best, "best_iteration": best.best_iteration}
    with atomic_write(Path(cfg.OUTPUT_DIR) / "result.yaml") as file:
        file.write(yaml.safe_dump(result, sort_keys=False).encode())
    logger.info("Result: %s", result)
    return result


def _initial_model(cfg: CfgNode, resume: bool) -> tuple[Segmenter, list[str]]:
    """The segmenter before the first step, and notes on the weights of its backbone."""
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(cfg.SEED, "weights"))
        backbone = build_backbone(_without_weights(cfg))
        # A resumed run has its weights from its checkpoint, and their first file may be gone.
        weights = "" if has_checkpoint(cfg, resume) else cfg.MODEL.WEIGHTS
        notes = load_pretrained(backbone, weights) + normalisation_notes(cfg) if weights else []
        return Segmenter(cfg, backbone), notes


def _build_trainer(
    cfg: CfgNode, model: Segmenter, train_set: SegmentationSet
) -> tuple[SegmentationTrainer, int]:
    """The trainer, and the iterations of an epoch."""
    solver = cfg.SOLVER
    samples = AugmentedSet(train_set, cfg)
    batches = SampleBatches(samples, collate, solver.BATCH_SIZE, cfg.SEED, cfg.DATA.NUM_WORKERS)
    formats = {True: torch.channels_last, False: torch.contiguous_format}
    model.to(comm.get_device(), memory_format=formats[solver.CHANNELS_LAST])
    trainer = SegmentationTrainer(
        model,
        build_optimizer(cfg, model),
        batches,
        ema=build_ema(model, solver.EMA_DECAY) if solver.EMA_DECAY else None,
        clip_grad_norm=solver.CLIP_GRAD_NORM,
    )
    return trainer, len(batches)


def _without_weights(cfg: CfgNode) -> CfgNode:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = ""
    return cfg


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
    stored = CfgNode.load_cfg(read_checkpoint(path).get("config", "{}"))
    if "SEGMENTATION" not in stored:
        raise CheckpointError(f"'{path}' is no checkpoint of a segmenter.")
    cfg = get_segmentation_cfg()
    cfg.merge_from_other_cfg(stored)
    cfg.merge_from_list(overrides or [])
    check_config(cfg)
    cfg = _without_weights(cfg)
    cfg.freeze()
    model = Segmenter(cfg)
    load_weights(model, path)
    return TrainedSegmenter(model.to(comm.get_device()).eval(), cfg)
