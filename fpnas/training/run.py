"""The training of a classifier, and its evaluation: from a config to figures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from fpnas.config import CfgNode, get_cfg
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
from fpnas.engine import check_setup
from fpnas.errors import CheckpointError, ConfigError
from fpnas.modeling import SearchedNet
from fpnas.solver import (
    ClassificationLoss,
    build_ema,
    build_optimizer,
    check_solver_config,
)
from fpnas.training.accuracy import evaluate
from fpnas.training.artifact import Description, describe_weights, load_network
from fpnas.training.fine_tuning import initial_network, with_length
from fpnas.training.fit import Parts, Task, as_text, fit
from fpnas.training.report import write_training_report
from fpnas.training.trainer import ClassificationTrainer, placed
from fpnas.utils import comm

logger = logging.getLogger(__name__)


def run_training(cfg: CfgNode, resume: bool = False, allow_changes: bool = False) -> dict[str, Any]:
    """Train ``cfg.MODEL`` as ``cfg.SOLVER`` says and return the figures of its last evaluation.

    MODEL.WEIGHTS of another number of classes start it with a fresh classifier, and the log lists
    what was dropped. It warns where DATA.MEAN and STD are not those of the weights. An empty
    MODEL.ARCH stands for the architecture that the weights know.

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

    Raises a UserError on wrong input, before anything is written; an unreadable image is found
    when ``run.yaml`` says that the folder is this run's.
    """
    check_setup(cfg)
    train_set, test_set = find_splits(cfg)
    return train_on(cfg, train_set, test_set, resume, allow_changes)


def train_on(
    cfg: CfgNode,
    train_set: ImageSet,
    test_set: ImageSet,
    resume: bool = False,
    allow_changes: bool = False,
) -> dict[str, Any]:
    """As :func:`run_training`, on these images in place of those of ``cfg.DATA``.

    Both sets have the same classes.
    """
    cfg = with_length(cfg, len(train_set))
    check_solver_config(cfg)
    classes = train_set.classes
    _check_num_classes(cfg, len(classes))
    model, notes = initial_network(cfg, len(classes), resume)
    teacher = _build_teacher(cfg, classes)
    # What these two refuse shall be said before anything is written.
    _train_loader(train_set, cfg), _test_loader(test_set, cfg)

    def prepare() -> Parts:
        loader = _train_loader(cache_images(train_set, cfg), cfg)
        test_loader = _test_loader(cache_images(test_set, cfg), cfg)
        trainer = _build_trainer(cfg, model, teacher, loader)
        return Parts(trainer, len(loader), lambda network: _score(network, test_loader))

    task = Task(
        "training",
        lambda: fingerprint(cfg.DATA.ROOT, train=train_set, test=test_set),
        prepare,
        split="test",
        metric="top1",
        shown=("train_top1", "test_top1"),
        about=Description(model.arch, preprocessing(cfg), classes),
        data=describe(cfg, training=train_set, test=test_set),
        notes=notes,
        files={"architecture.yaml": model.arch.to_yaml()},
        figures={**_cost(model, cfg), "weights": "ema" if cfg.SOLVER.EMA_DECAY else "last"},
    )
    result = fit(cfg, task, resume, allow_changes)
    if comm.is_main_process():
        logger.info("Report: %s", write_training_report(cfg.OUTPUT_DIR))
    comm.synchronize()
    return result


def run_evaluation(cfg: CfgNode, classes: Sequence[str] = ()) -> dict[str, Any]:
    """Evaluate MODEL.WEIGHTS on the test images. Writes nothing. Call it in every process.

    An empty MODEL.ARCH stands for the architecture that the weights know. Where preprocessing or
    class names differ from those of the training, a warning says so.

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
    result = _score(placed(model, cfg), _test_loader(images, cfg))
    result |= _cost(model, cfg)
    logger.info("%s on %d images: %s", cfg.MODEL.WEIGHTS, len(images), as_text(result))
    return result


def _check_num_classes(cfg: CfgNode, num_classes: int) -> None:
    """Raise ConfigError if MODEL.NUM_CLASSES is another number than the data has."""
    if cfg.MODEL.NUM_CLASSES not in (0, num_classes):
        raise ConfigError(
            f"MODEL.NUM_CLASSES is {cfg.MODEL.NUM_CLASSES}, but the data set '{cfg.DATA.NAME}' has "
            f"{num_classes} classes. Valid: {num_classes}, or 0 for those of the data."
        )


def _build_teacher(cfg: CfgNode, classes: Sequence[str]) -> SearchedNet | None:
    """The trained network of ``cfg.SOLVER.DISTILL``, or None if there is to be no distillation.

    Raises ConfigError if ARCH comes without WEIGHTS, or WEIGHTS that do not know theirs without
    ARCH, CheckpointError if the weights do not fit it with an output for each of ``classes``.
    """
    arch, weights = cfg.SOLVER.DISTILL.ARCH, cfg.SOLVER.DISTILL.WEIGHTS
    if not arch and not weights:
        return None
    if not weights:
        raise ConfigError(
            f"SOLVER.DISTILL.ARCH is '{arch}', but SOLVER.DISTILL.WEIGHTS is empty: a teacher must "
            "be trained. Give its checkpoint (.pth or .safetensors)."
        )
    if not arch and describe_weights(weights) is None:
        raise ConfigError(
            f"SOLVER.DISTILL.WEIGHTS is '{weights}', but SOLVER.DISTILL.ARCH is empty. Give the "
            "teacher's architecture: a name or a YAML file."
        )
    own = get_cfg()
    own.DATA = cfg.DATA
    own.MODEL.ARCH, own.MODEL.WEIGHTS = arch, weights
    teacher = load_network(own, classes).model
    if teacher.arch.num_classes != len(classes):
        raise CheckpointError(
            f"SOLVER.DISTILL.WEIGHTS '{weights}' has {teacher.arch.num_classes} classes, the data "
            f"set '{cfg.DATA.NAME}' has {len(classes)}."
        )
    return teacher


def _build_trainer(
    cfg: CfgNode, model: SearchedNet, teacher: SearchedNet | None, loader: TrainLoader
) -> ClassificationTrainer:
    solver = cfg.SOLVER
    model = placed(model, cfg)
    return ClassificationTrainer(
        model,
        build_optimizer(cfg, model),
        loader,
        ClassificationLoss(
            solver.LABEL_SMOOTHING,
            None if teacher is None else placed(teacher, cfg),
            solver.DISTILL.WEIGHT,
            solver.DISTILL.TEMPERATURE,
        ),
        ema=build_ema(model, solver.EMA_DECAY) if solver.EMA_DECAY else None,
        clip_grad_norm=solver.CLIP_GRAD_NORM,
        amp=solver.AMP,
        channels_last=solver.CHANNELS_LAST,
        compile_model=solver.COMPILE,
    )


def _load_for_evaluation(cfg: CfgNode, images: ImageSet) -> SearchedNet:
    path = cfg.MODEL.WEIGHTS
    _check_num_classes(cfg, len(images.classes))
    net = load_network(cfg, images.classes)
    if net.model.arch.num_classes != len(images.classes):
        raise ConfigError(
            f"'{path}' has {net.model.arch.num_classes} classes, the data set '{cfg.DATA.NAME}' "
            f"has {len(images.classes)}."
        )
    if net.description.classes != images.classes:
        logger.warning("%s was trained on classes of other names or order", path)
    net.description.warn_of_other_preprocessing(
        preprocessing(cfg), path, "this evaluation has the config's"
    )
    return net.model


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
