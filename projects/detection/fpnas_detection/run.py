"""A whole training: from a config to figures, with all files."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from fpnas.config import CfgNode
from fpnas.data.sample_batches import SampleBatches
from fpnas.engine import BestCheckpointHook, begin_run, check_setup, default_setup, has_checkpoint
from fpnas.errors import CheckpointError
from fpnas.modeling import load_pretrained
from fpnas.solver import build_ema, build_optimizer
from fpnas.training import normalisation_notes, standard_hooks
from fpnas.utils import comm
from fpnas.utils.checkpoint import Checkpointer, RunTag
from fpnas.utils.file_io import atomic_write
from fpnas.utils.rng import derive_seed
from fpnas_detection.backbones import build_backbone
from fpnas_detection.coco import read_coco
from fpnas_detection.data import AugmentedSet, DetectionSet, collate, fingerprint
from fpnas_detection.evaluate import evaluate
from fpnas_detection.models import build_detector
from fpnas_detection.trainer import DetectionTrainer
from fpnas_detection.transforms import TrainTransform
from fpnas_detection.voc import read_voc

logger = logging.getLogger("fpnas.detection")

_VAL = "val_"
_SHOWN_SCALARS = (f"{_VAL}map50", f"{_VAL}map")


class DetectorCheckpointer(Checkpointer):
    """A Checkpointer whose every file holds the names of the classes, too."""

    def __init__(
        self, trainer: DetectionTrainer, cfg: CfgNode, run: RunTag, classes: tuple[str, ...]
    ) -> None:
        super().__init__(
            trainer.evaluated, cfg.OUTPUT_DIR, config=cfg.dump(), run=run, trainer=trainer
        )
        self._classes = list(classes)

    def write(self, name: str, data: Mapping[str, Any]) -> None:
        """As :meth:`Checkpointer.write`, with the classes."""
        super().write(name, {"detection_classes": self._classes, **data})

    def load(self, path: str | Path, checkpointables: Any = None) -> dict[str, Any]:
        """As :meth:`Checkpointer.load`. CheckpointError, too, if it is of other classes."""
        contents = super().load(path, checkpointables)
        if contents.get("detection_classes", self._classes) != self._classes:
            raise CheckpointError(
                f"'{path}' was trained on the classes {contents['detection_classes']}, the data "
                f"has {self._classes}."
            )
        return contents


def read_data(cfg: CfgNode, split: str, classes: tuple[str, ...]) -> DetectionSet:
    """The images of ``split`` in DATA.ROOT, in the layout of DETECTION.DATASET.

    ``classes``: their names; (): all that the annotations name.
    """
    read = {"voc": read_voc, "coco": read_coco}[cfg.DETECTION.DATASET]
    return read(cfg.DATA.ROOT, split, classes)


def run_training(
    cfg: CfgNode, resume: bool = False, allow_changes: bool = False
) -> dict[str, float]:
    """Train the detector of ``cfg`` and return the figures of its last evaluation.

    Writes into OUTPUT_DIR config.yaml, log.txt, metrics.json, checkpoints and result.yaml (what is
    returned). A resumed run ends with the same bits as one that was never stopped.

    Args:
        cfg: the config, see :func:`fpnas_detection.config.get_detection_cfg`.
        resume: go on from the last checkpoint in OUTPUT_DIR. ResumeError if it is of another
            config or of other images.
        allow_changes: go on all the same; the log lists what differs.

    Returns "map", "map50" and so on (see :func:`fpnas_detection.evaluate.coco_scores`) after the
    last step, "best_map50" and "best_iteration" of model_best.pth.

    Raises a UserError on wrong input, before anything is written.
    """
    check_setup(cfg)
    keys = cfg.DETECTION
    train_set = read_data(cfg, keys.TRAIN_SPLIT, keys.CLASSES)
    val_set = read_data(cfg, keys.VAL_SPLIT, train_set.classes)
    model, notes = _initial_model(cfg, len(train_set.classes), resume)
    trainer, iters_per_epoch = _build_trainer(cfg, model, train_set)
    run = begin_run(
        cfg,
        "detection",
        lambda: fingerprint(cfg.DATA.ROOT, train=train_set, val=val_set),
        resume=resume,
        allow_changes=allow_changes,
    )
    checkpointer = DetectorCheckpointer(trainer, cfg, run.tag, train_set.classes)
    best = BestCheckpointHook(checkpointer, f"{_VAL}map50")

    def test() -> dict[str, float]:
        scores = evaluate(trainer.evaluated, val_set, cfg.DATA.INPUT_SIZE)
        return {f"{_VAL}{name}": value for name, value in scores.items()}

    trainer.register_hooks(
        standard_hooks(cfg, trainer, checkpointer, iters_per_epoch, test, best, _SHOWN_SCALARS)
    )
    checkpointer.resume_or_load("", resume=resume)
    default_setup(cfg, argparse.Namespace(resume=resume, allow_changes=allow_changes), run)
    for note in notes:  # not before: now they reach log.txt
        logger.warning(note)
    logger.info(
        "%d training and %d validation images, classes: %s",
        *(len(train_set), len(val_set), ", ".join(train_set.classes)),
    )
    # What a step draws itself: which regions Faster R-CNN learns from.
    torch.manual_seed(derive_seed(cfg.SEED, "training"))
    trainer.train(trainer.steps_done, cfg.SOLVER.EPOCHS * iters_per_epoch)
    return _write_result(cfg, trainer, best)


def _initial_model(cfg: CfgNode, num_classes: int, resume: bool) -> tuple[nn.Module, list[str]]:
    """The detector before the first step, and notes on the weights of its backbone."""
    without = cfg.clone()
    without.defrost()
    without.MODEL.WEIGHTS = ""
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(cfg.SEED, "weights"))
        backbone = build_backbone(without)
        # A resumed run has its weights from its checkpoint, and their first file may be gone.
        weights = "" if has_checkpoint(cfg, resume) else cfg.MODEL.WEIGHTS
        notes = load_pretrained(backbone, weights) + normalisation_notes(cfg) if weights else []
        return build_detector(cfg, num_classes, backbone), notes


def _build_trainer(
    cfg: CfgNode, model: nn.Module, train_set: DetectionSet
) -> tuple[DetectionTrainer, int]:
    """The trainer, and the iterations of an epoch."""
    solver = cfg.SOLVER
    samples = AugmentedSet(train_set, TrainTransform(cfg))
    batches = SampleBatches(samples, collate, solver.BATCH_SIZE, cfg.SEED, cfg.DATA.NUM_WORKERS)
    formats = {True: torch.channels_last, False: torch.contiguous_format}
    model.to(comm.get_device(), memory_format=formats[solver.CHANNELS_LAST])
    trainer = DetectionTrainer(
        model,
        build_optimizer(cfg, model),
        batches,
        ema=build_ema(model, solver.EMA_DECAY) if solver.EMA_DECAY else None,
        clip_grad_norm=solver.CLIP_GRAD_NORM,
    )
    return trainer, len(batches)


def _write_result(
    cfg: CfgNode, trainer: DetectionTrainer, best: BestCheckpointHook
) -> dict[str, float]:
    scores = {
        name.removeprefix(_VAL): value
        for name, (value, _) in trainer.storage.latest().items()
        if name.startswith(_VAL)
    }
    result = {**scores, "best_map50": best.best, "best_iteration": best.best_iteration}
    with atomic_write(Path(cfg.OUTPUT_DIR) / "result.yaml") as file:
        file.write(yaml.safe_dump(result, sort_keys=False).encode())
    logger.info("Result: %s", result)
    return result
