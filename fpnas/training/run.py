"""A whole training, or an evaluation: from a config to figures, with all files."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from fpnas.config import CfgNode
from fpnas.data import (
    ImageSet,
    TestLoader,
    TrainLoader,
    cache_images,
    describe,
    find_dataset,
    find_splits,
    fingerprint,
    match_classes,
    preprocessing,
)
from fpnas.engine import (
    BestCheckpointHook,
    Run,
    begin_run,
    check_setup,
    default_setup,
    has_checkpoint,
)
from fpnas.errors import ConfigError
from fpnas.modeling import SearchedNet, fresh_classifier, load_pretrained
from fpnas.report import write_training_report
from fpnas.solver import (
    ClassificationLoss,
    build_ema,
    build_optimizer,
    check_solver_config,
)
from fpnas.training.accuracy import evaluate
from fpnas.training.artifact import Description, TrainingCheckpointer, load_trained
from fpnas.training.fine_tuning import with_length
from fpnas.training.normalisation import normalisation_notes
from fpnas.training.standard_hooks import standard_hooks
from fpnas.training.teacher import build_teacher
from fpnas.training.trainer import ClassificationTrainer
from fpnas.utils import comm
from fpnas.utils.checkpoint import load_weights, read_checkpoint
from fpnas.utils.file_io import atomic_write
from fpnas.utils.rng import derive_seed

logger = logging.getLogger(__name__)

_TEST = "test_"
_SHOWN_SCALARS = ("train_top1", f"{_TEST}top1")


def run_training(cfg: CfgNode, resume: bool = False, allow_changes: bool = False) -> dict[str, Any]:
    """Train ``cfg.MODEL`` as ``cfg.SOLVER`` says and return the figures of its last evaluation.

    MODEL.WEIGHTS of another number of classes start it with a fresh classifier, and the log lists
    what was dropped. It warns where DATA.MEAN and STD are not those of the weights.

    Writes into OUTPUT_DIR config.yaml, log.txt, architecture.yaml, metrics.json, checkpoints,
    result.yaml (what is returned) and report.html. ``model_final.pth`` and ``model_best.pth`` hold
    the evaluated weights (the average, with SOLVER.EMA_DECAY) and all that :func:`load_trained`
    needs. What an earlier run left there is moved to a folder in it, unless ``resume`` goes on.
    Call it in every process.

    Args:
        cfg: the config; MODEL, DATA, SOLVER, TEST, CHECKPOINT and LOG are read.
        resume: go on from the last checkpoint in OUTPUT_DIR. ResumeError if it is of another
            config or of other images.
        allow_changes: go on all the same; the log lists what differs.

    Returns:
        "top1", "top5" (percent; "top5" from five classes on) and "loss" on the test images after
        the last step, "best_top1" and "best_iteration" of model_best.pth, "flops", "params",
        "weights" ("ema" or "last").

    Raises a UserError on wrong input, before anything is written.
    """
    run = _Training.from_cfg(cfg, resume, allow_changes)
    cfg = run.cfg
    run.checkpointer.resume_or_load("", resume=resume)
    args = argparse.Namespace(resume=resume, allow_changes=allow_changes)
    default_setup(cfg, args, run.run)
    logger.info("Data: %s", run.data)  # not before: now it reaches log.txt
    for note in run.notes:
        logger.warning(note)
    if comm.is_main_process():
        run.description.arch.save(Path(cfg.OUTPUT_DIR) / "architecture.yaml")
    # Dropout and stochastic depth differ between the processes; the weights do not.
    torch.manual_seed(derive_seed(cfg.SEED, "training", comm.get_rank()))
    run.trainer.train(run.trainer.steps_done, run.max_iter)
    result = run.result()
    if comm.is_main_process():
        _write_result(Path(cfg.OUTPUT_DIR), result)
    comm.synchronize()
    return result


def run_evaluation(cfg: CfgNode, classes: Sequence[str] = ()) -> dict[str, Any]:
    """Evaluate MODEL.WEIGHTS on the test images. Writes nothing. Call it in every process.

    An empty MODEL.ARCH stands for the architecture in the checkpoint. Where preprocessing or class
    names differ from those of the training, a warning says so.

    Args:
        cfg: the config; MODEL, DATA, TEST and SOLVER.CHANNELS_LAST are read.
        classes: names of the network's outputs. With them the classes of the data are matched by
            name (see :func:`fpnas.data.match_classes`) and may be some of the network's only;
            without, the data's classes are the network's, in this order.

    Returns "top1", "top5" (percent; from five classes on), "loss", "flops" and "params".

    Raises ConfigError without weights or with a wrong number of classes, CheckpointError if weights
    and architecture do not fit.
    """
    if not cfg.MODEL.WEIGHTS:
        raise ConfigError("MODEL.WEIGHTS is empty; give the checkpoint to evaluate.")
    images = find_dataset(cfg, "test")
    if classes:
        images = match_classes(images, classes)
    model = _load_for_evaluation(cfg, images)
    images = cache_images(images, cfg)
    result = _score(_placed(model, cfg), _test_loader(images, cfg))
    result |= _cost(model, cfg)
    logger.info("%s on %d images: %s", cfg.MODEL.WEIGHTS, len(images), _as_text(result))
    return result


@dataclass(frozen=True)
class _Training:
    """All parts of a training. Making them takes OUTPUT_DIR, before images are decoded."""

    cfg: CfgNode
    run: Run
    description: Description
    trainer: ClassificationTrainer
    checkpointer: TrainingCheckpointer
    best: BestCheckpointHook
    max_iter: int
    data: str  # what the images are, for the log
    notes: list[str]  # on the weights that it starts from

    @classmethod
    def from_cfg(cls, cfg: CfgNode, resume: bool, allow_changes: bool) -> _Training:
        check_setup(cfg)
        train_set, test_set = find_splits(cfg)
        cfg = with_length(cfg, len(train_set))
        check_solver_config(cfg)
        data = describe(cfg, training=train_set, test=test_set)
        model, notes = _initial_model(cfg, len(train_set.classes), resume)
        teacher = build_teacher(cfg, model.arch.num_classes)
        # What these two refuse shall be said before anything is written.
        _train_loader(train_set, cfg), _test_loader(test_set, cfg)
        run = begin_run(
            cfg,
            "training",
            lambda: fingerprint(cfg.DATA.ROOT, train=train_set, test=test_set),
            resume=resume,
            allow_changes=allow_changes,
        )
        # From here on it may take minutes.
        train_set, test_set = cache_images(train_set, cfg), cache_images(test_set, cfg)
        loader = _train_loader(train_set, cfg)
        trainer = _build_trainer(cfg, model, teacher, loader)
        description = Description(model.arch, preprocessing(cfg), train_set.classes)
        checkpointer = TrainingCheckpointer(
            trainer.evaluated,
            cfg.OUTPUT_DIR,
            description,
            config=cfg.dump(),
            run=run.tag,
            trainer=trainer,
        )
        best = BestCheckpointHook(checkpointer, f"{_TEST}top1")
        test_loader = _test_loader(test_set, cfg)

        def test() -> dict[str, float]:
            scores = _score(trainer.evaluated, test_loader)
            return {f"{_TEST}{name}": value for name, value in scores.items()}

        trainer.register_hooks(
            standard_hooks(cfg, trainer, checkpointer, len(loader), test, best, _SHOWN_SCALARS)
        )
        max_iter = cfg.SOLVER.EPOCHS * len(loader)
        return cls(cfg, run, description, trainer, checkpointer, best, max_iter, data, notes)

    def result(self) -> dict[str, Any]:
        """The figures of the evaluation that followed the last step."""
        latest = self.trainer.storage.latest()
        scores = {
            name.removeprefix(_TEST): value
            for name, (value, _) in latest.items()
            if name.startswith(_TEST)
        }
        return {
            **scores,
            "best_top1": self.best.best,
            "best_iteration": self.best.best_iteration,
            **_cost(self.trainer.model, self.cfg),
            "weights": "last" if self.trainer.ema is None else "ema",
        }


def _initial_model(cfg: CfgNode, num_classes: int, resume: bool) -> tuple[SearchedNet, list[str]]:
    """The network before the first step, the same in every process, and notes on its weights."""
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(cfg.SEED, "weights"))
        model = fresh_classifier(_with_num_classes(cfg, num_classes))
    if has_checkpoint(cfg, resume) or not cfg.MODEL.WEIGHTS:
        return model, []  # a checkpoint has them, and the file may be gone by now
    notes = load_pretrained(model, cfg.MODEL.WEIGHTS, new_classes=True)
    return model, notes + normalisation_notes(cfg)


def _with_num_classes(cfg: CfgNode, num_classes: int) -> CfgNode:
    """A copy of ``cfg`` with MODEL.NUM_CLASSES. ConfigError if it says another number."""
    if cfg.MODEL.NUM_CLASSES not in (0, num_classes):
        raise ConfigError(
            f"MODEL.NUM_CLASSES is {cfg.MODEL.NUM_CLASSES}, but the data set '{cfg.DATA.NAME}' has "
            f"{num_classes} classes. Valid: {num_classes}, or 0 for those of the data."
        )
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.NUM_CLASSES = num_classes
    return cfg


def _build_trainer(
    cfg: CfgNode, model: SearchedNet, teacher: SearchedNet | None, loader: TrainLoader
) -> ClassificationTrainer:
    solver = cfg.SOLVER
    model = _placed(model, cfg)
    return ClassificationTrainer(
        model,
        build_optimizer(cfg, model),
        loader,
        ClassificationLoss(
            solver.LABEL_SMOOTHING,
            None if teacher is None else _placed(teacher, cfg),
            solver.DISTILL.WEIGHT,
            solver.DISTILL.TEMPERATURE,
        ),
        ema=build_ema(model, solver.EMA_DECAY) if solver.EMA_DECAY else None,
        clip_grad_norm=solver.CLIP_GRAD_NORM,
        amp=solver.AMP,
        channels_last=solver.CHANNELS_LAST,
        compile_model=solver.COMPILE,
    )


def _placed(model: nn.Module, cfg: CfgNode) -> nn.Module:
    """``model`` on the device of this process, in the memory format of the config."""
    formats = {True: torch.channels_last, False: torch.contiguous_format}
    return model.to(comm.get_device(), memory_format=formats[cfg.SOLVER.CHANNELS_LAST])


def _load_for_evaluation(cfg: CfgNode, images: ImageSet) -> SearchedNet:
    path = cfg.MODEL.WEIGHTS
    if cfg.MODEL.ARCH:
        model = fresh_classifier(_with_num_classes(cfg, len(images.classes)))
        load_weights(model, path)  # all of them: a fresh classifier has nothing to evaluate
        description = Description.from_dict(read_checkpoint(path), path)
    else:
        trained = load_trained(path)
        model, description = trained.model, trained.description
        _with_num_classes(cfg, len(images.classes))  # MODEL.NUM_CLASSES may contradict the data
        if model.arch.num_classes != len(images.classes):
            raise ConfigError(
                f"'{path}' has {model.arch.num_classes} classes, the data set '{cfg.DATA.NAME}' "
                f"has {len(images.classes)}."
            )
    if description is not None:
        description.check_same_network(model.arch, path)
        if description.classes != images.classes:
            logger.warning("%s was trained on classes of other names or order", path)
        description.warn_of_other_preprocessing(
            preprocessing(cfg), path, "this evaluation has the config's"
        )
    return model


def _train_loader(images: ImageSet, cfg: CfgNode) -> TrainLoader:
    return TrainLoader(images, cfg, cfg.SOLVER.BATCH_SIZE, cfg.SEED, *_ranks())


def _test_loader(images: ImageSet, cfg: CfgNode) -> TestLoader:
    return TestLoader(images, cfg, cfg.TEST.BATCH_SIZE, *_ranks())


def _ranks() -> tuple[int, int]:
    return comm.get_rank(), comm.get_world_size()


def _score(model: nn.Module, loader: TestLoader) -> dict[str, float]:
    """Accuracy and loss of the main process's network, on the images of all processes."""
    if comm.get_world_size() > 1:
        # Each process has gathered its own statistics in BatchNorm; the saved ones count.
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, src=0)
    return evaluate(model, loader, comm.get_device())


def _cost(model: SearchedNet, cfg: CfgNode) -> dict[str, int]:
    return {"flops": model.arch.flops(cfg.DATA.INPUT_SIZE), "params": model.arch.params}


def _as_text(result: dict[str, Any]) -> str:
    return "  ".join(
        f"{name}: {value:.5g}" if isinstance(value, float) else f"{name}: {value}"
        for name, value in result.items()
    )


def _write_result(output_dir: Path, result: dict[str, Any]) -> None:
    with atomic_write(output_dir / "result.yaml") as file:
        file.write(yaml.safe_dump(result, sort_keys=False).encode())
    logger.info("Result: %s. Files: %s", _as_text(result), output_dir)
    logger.info("Report: %s", write_training_report(output_dir))
