"""Stand-alone trainings: the truth that a supernet's ranking is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fpnas.data import TestLoader, TrainLoader
from fpnas.modeling import SearchedNet
from fpnas.solver import ClassificationLoss, build_ema, build_optimizer
from fpnas.training import ClassificationTrainer
from fpnas.training.accuracy import evaluate
from fpnas.utils.rng import derive_seed
from rank_lib.loop import train
from rank_lib.study import Candidate, Study


def train_alone(study: Study, candidate: Candidate, seed: int, folder: Path) -> dict[str, Any]:
    """Train ``candidate`` on all training images and test it.

    Returns the candidate's figures with "seed", "accuracy" (percent), "loss" and "cpu_seconds".
    """
    cfg = study.train_cfg
    solver = cfg.SOLVER
    torch.manual_seed(derive_seed(seed, "weights"))
    network = SearchedNet(study.space.architecture(candidate.choices))
    network = network.to(memory_format=torch.channels_last)
    loader = TrainLoader(study.train_images, cfg, solver.BATCH_SIZE, seed)
    trainer = ClassificationTrainer(
        network,
        build_optimizer(cfg, network),
        loader,
        ClassificationLoss(solver.LABEL_SMOOTHING),
        ema=build_ema(network, solver.EMA_DECAY) if solver.EMA_DECAY else None,
        clip_grad_norm=solver.CLIP_GRAD_NORM,
        channels_last=True,
    )
    max_iter = solver.EPOCHS * len(loader)
    cpu_seconds = train(
        trainer, trainer.evaluated, trainer.optimizer, cfg, folder, len(loader), max_iter
    )
    scores = evaluate(trainer.evaluated, TestLoader(study.test_images, cfg, cfg.TEST.BATCH_SIZE))
    return {
        **candidate.figures,
        "seed": seed,
        "accuracy": scores["top1"],
        "loss": scores["loss"],
        "cpu_seconds": cpu_seconds,
    }
