"""The one training of all rows, and what a network costs."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn
from units import write_json

from fpnas.config import CfgNode
from fpnas.data import (
    ImageSet,
    TestLoader,
    TrainLoader,
    cache_images,
    describe,
    find_splits,
    fingerprint,
)
from fpnas.modeling import convert_norm
from fpnas.solver import ClassificationLoss, build_ema, build_optimizer, check_solver_config
from fpnas.training.accuracy import evaluate, evaluating
from fpnas.training.artifact import Description
from fpnas.training.fine_tuning import with_length
from fpnas.training.fit import Parts, Task, fit
from fpnas.training.trainer import ClassificationTrainer, placed
from fpnas.utils import comm


def train(
    cfg: CfgNode, network: nn.Module, teacher: nn.Module | None, about: Description | None = None
) -> dict[str, Any]:
    """Train ``network``, whatever it is made of, as :func:`fpnas.training.run_training` would.

    In OUTPUT_DIR, where an interrupted training goes on; the same network must come again then.

    Args:
        cfg: DATA, SOLVER, TEST, CHECKPOINT, LOG, MODEL.NORM are read.
        network: with the weights to start from.
        teacher: of SOLVER.DISTILL; None: no distillation.
        about: for the checkpoints, of a network that others are to load.

    Returns "top1", "top5", "loss" of the test images after the last step, and "steps".
    """
    train_set, test_set = find_splits(cfg)
    cfg = with_length(cfg, len(train_set))
    check_solver_config(cfg)
    convert_norm(network, cfg.MODEL.NORM)

    def prepare() -> Parts:
        loader = train_loader(cache_images(train_set, cfg), cfg)
        test_loader = TestLoader(cache_images(test_set, cfg), cfg, cfg.TEST.BATCH_SIZE)
        model, solver = placed(network, cfg), cfg.SOLVER
        loss = ClassificationLoss(
            solver.LABEL_SMOOTHING,
            None if teacher is None else placed(teacher, cfg),
            solver.DISTILL.WEIGHT,
            solver.DISTILL.TEMPERATURE,
        )
        trainer = ClassificationTrainer(
            model,
            build_optimizer(cfg, model),
            loader,
            loss,
            ema=build_ema(model, solver.EMA_DECAY) if solver.EMA_DECAY else None,
            clip_grad_norm=solver.CLIP_GRAD_NORM,
            channels_last=solver.CHANNELS_LAST,
        )
        device = comm.get_device()
        return Parts(trainer, len(loader), lambda model: evaluate(model, test_loader, device))

    task = Task(
        "training",
        lambda: fingerprint(cfg.DATA.ROOT, train=train_set, test=test_set),
        prepare,
        split="test",
        metric="top1",
        shown=("train_top1", "test_top1"),
        about=about,
        data=describe(cfg, training=train_set, test=test_set),
    )
    return fit(cfg, task, resume=True)


def train_loader(images: ImageSet, cfg: CfgNode) -> TrainLoader:
    """Augmented batches of the training images."""
    return TrainLoader(images, cfg, cfg.SOLVER.BATCH_SIZE, cfg.SEED)


def multiply_adds(network: nn.Module, input_size: int) -> int:
    """Those of convolutions and linear layers for one image, as ``Architecture.flops`` counts."""
    image = torch.zeros(1, 3, input_size, input_size)
    with evaluating(network):
        counted = FlopCountAnalysis(network, image)
        counted.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        operators = counted.by_operator()
    return int(operators["conv"] + operators["linear"])


def parameters(network: nn.Module) -> int:
    """Weights of convolutions and linear layers, as ``Architecture.params`` counts."""
    layers = (m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear)))
    return sum(layer.weight.numel() for layer in layers)


@contextmanager
def cpu_counted(file: Path) -> Iterator[None]:
    """Add the processor time of what is inside, and of its ended children, to ``file`` (s).

    Also when it is interrupted, so that ``file`` counts all sittings of a unit.
    """
    begin = _cpu_seconds()
    try:
        yield
    finally:
        earlier = json.loads(file.read_text()) if file.exists() else 0.0
        write_json(file, earlier + _cpu_seconds() - begin)


def _cpu_seconds() -> float:
    usages = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
