"""A whole search: from a config to an architecture, with its files and its report."""

from __future__ import annotations

import argparse
import itertools
import json
import logging

import torch

from fpnas.config import CfgNode
from fpnas.data import describe, find_dataset, fingerprint
from fpnas.engine import Run, begin_run, build_hooks, default_setup, has_checkpoint
from fpnas.modeling import SearchedNet, pretrained_supernet, taylor_scores
from fpnas.search.budget import Budget, log_budgets, unit_of
from fpnas.search.finalists import compete
from fpnas.search.length import has_open_lengths, with_search_length
from fpnas.search.methods import SearchTrainer, search_method
from fpnas.search.pretrained import full_network, starts_from_network, teacher_weights
from fpnas.search.report import write_search_report
from fpnas.search.result import SearchResult
from fpnas.search.searcher import ArchitectureSearcher
from fpnas.search.setup import (
    SearchSetup,
    warn_of_few_images,
    warn_of_few_steps,
    warn_of_late_joint_epoch,
)
from fpnas.search.supernet_trainer import SupernetTrainer
from fpnas.spaces import NetworkSpace
from fpnas.training.artifact import Description, TrainingCheckpointer
from fpnas.training.trainer import placed
from fpnas.utils import comm
from fpnas.utils.checkpoint import Checkpointer, load_weights
from fpnas.utils.file_io import atomic_write
from fpnas.utils.logger import setup_logger
from fpnas.utils.rng import derive_seed

logger = logging.getLogger(__name__)

_SHOWN_SCALARS = ("entropy", "num_samples", "expected_cost", "mode_cost")


def run_search(
    cfg: CfgNode, resume: bool = False, allow_changes: bool = False
) -> list[SearchResult]:
    """Search as ``cfg`` says and return what was found, a result for each target.

    Writes into OUTPUT_DIR config.yaml, log.txt, metrics.json (a line for each step), checkpoints
    and, at the end, search_result.pth and .yaml, architecture.yaml, network.pth and report.html.
    network.pth is the found network with the weights of the supernet, for the classes of the data;
    :func:`fpnas.training.load_trained` reads it. With several SEARCH.TARGETS these last files stand
    in a folder for each target (``target-60M``), together with the lines of metrics.json that are
    about it. What an earlier run left there is moved to a folder in it, unless ``resume`` goes on.
    Call it in every process. Raises a UserError on wrong input, before anything is written; an
    unreadable image is found when ``run.yaml`` says that the folder is this run's.

    Args:
        cfg: the config; SEARCH, SOLVER and DATA are read.
        resume: go on from the last checkpoint in OUTPUT_DIR. ResumeError if it is of another
            config or of other images.
        allow_changes: go on all the same; the log lists what differs.
    """
    method = search_method(cfg)
    if cfg.MODEL.WEIGHTS and has_open_lengths(cfg):
        cfg = with_search_length(cfg, len(find_dataset(cfg, "train")))
    setup = SearchSetup.planned(cfg)
    torch.manual_seed(derive_seed(cfg.SEED, "weights"))
    is_pretrained = starts_from_network(cfg, setup.space)
    supernet = None if is_pretrained else method.build_supernet(cfg, setup)
    if supernet is not None and cfg.MODEL.WEIGHTS and not has_checkpoint(cfg, resume):
        load_weights(supernet, cfg.MODEL.WEIGHTS)
    flags = argparse.Namespace(resume=resume, allow_changes=allow_changes)
    with begin_run(
        cfg,
        "search",
        lambda: fingerprint(cfg.DATA.ROOT, train=setup.images),
        resume=resume,
        allow_changes=allow_changes,
    ) as run:
        setup = setup.decoded(cfg)
        if is_pretrained:
            trainer = _from_network(cfg, setup, resume, allow_changes)
        else:
            trainer = method.from_cfg(cfg, setup, supernet)
        _learn(cfg, setup, trainer, run, flags)
        results = [
            _result(cfg, setup, trainer, searcher, budget)
            for searcher, budget in zip(trainer.searchers, setup.budgets, strict=True)
        ]
        comm.synchronize()
    return results


def _learn(
    cfg: CfgNode,
    setup: SearchSetup,
    trainer: SupernetTrainer,
    run: Run,
    flags: argparse.Namespace,
) -> None:
    """All steps of the search, or those that a resumed one has left."""
    checkpointer = Checkpointer(
        trainer.supernet, cfg.OUTPUT_DIR, config=cfg.dump(), run=run.tag, trainer=trainer
    )
    trainer.register_hooks(
        build_hooks(
            cfg,
            trainer.optimizer,
            checkpointer,
            len(setup.train_loader),
            setup.max_iter,
            evaluate=lambda: _score_modes(setup, trainer),
            shown=_SHOWN_SCALARS,
            every_step=True,  # the learning of a distribution is looked at step by step
        )
    )
    checkpointer.resume_or_load("", resume=flags.resume)
    default_setup(cfg, flags, run)
    halves = {
        "training": setup.train_loader.image_set,
        "validation": setup.val_loader.image_set,
    }
    logger.info("Data: %s", describe(cfg, **halves))
    warn_of_few_images(cfg, setup.images, setup.space)
    log_budgets(cfg, setup.budgets)
    warn_of_late_joint_epoch(cfg)
    warn_of_few_steps(cfg, setup.space, setup.max_iter - setup.iterations(cfg.SEARCH.WARMUP_EPOCHS))
    trainer.train(trainer.steps_done, setup.max_iter)


def _result(
    cfg: CfgNode,
    setup: SearchSetup,
    trainer: SupernetTrainer,
    searcher: ArchitectureSearcher,
    budget: Budget,
) -> SearchResult:
    """What was found for a budget, after the finalists' trainings; its files are written."""
    result = searcher.result(cfg.SEARCH.TOP_M)
    network = None
    if cfg.SEARCH.FINALISTS:
        is_pretrained = starts_from_network(cfg, setup.space)
        teacher = teacher_weights(cfg, setup.images.classes) if is_pretrained else ""
        result, network = compete(cfg, setup, trainer.supernet, searcher, result, teacher)
        setup_logger(cfg.OUTPUT_DIR)  # the trainings had log files of their own
    logger.info(
        "Found an architecture of %.4g %s (target %.4g) with %d samples",
        *(result.cost, unit_of(setup.cost), result.target, result.num_samples),
    )
    if result.note:
        logger.warning(result.note)
    if comm.is_main_process():
        if network is None:
            network = setup.network(trainer.supernet, result.choices)
        _write_result(setup, network, result, budget.space)
    return result


def _from_network(
    cfg: CfgNode, setup: SearchSetup, resume: bool, allow_changes: bool
) -> SearchTrainer:
    """The trainer of a supernet with the weights of the whole network, which teaches it."""
    halves = setup.train_loader.image_set, setup.val_loader.image_set
    full = full_network(cfg, *halves, resume=resume, allow_changes=allow_changes)
    device = next(full.parameters()).device
    batches = itertools.islice(setup.train_loader.iterate(), setup.bn_batches)
    on_device = ((images.to(device), labels.to(device)) for images, labels in batches)
    scores = taylor_scores(full, on_device)
    supernet = placed(pretrained_supernet(full, setup.space, scores), cfg)
    return SearchTrainer.from_cfg(cfg, setup, supernet, full)


def _score_modes(setup: SearchSetup, trainer: SupernetTrainer) -> dict[str, float]:
    """Accuracy of what each searcher prefers now."""
    scores = {}
    for searcher in trainer.searchers:
        suffix = "" if len(trainer.searchers) == 1 else f"@{setup.short(searcher.target)}"
        own = setup.score(trainer.supernet, searcher.favourite())
        scores |= {f"{name}{suffix}": value for name, value in own.items()}
    return scores


def _write_result(
    setup: SearchSetup, network: SearchedNet, result: SearchResult, space: NetworkSpace
) -> None:
    folder = setup.folder(result.target)
    if folder != setup.output_dir:
        folder.mkdir(exist_ok=True)
        _copy_metrics(setup, result.target)
    result.save(folder / "search_result.pth")
    name = f"{space.name}-{setup.short(result.target)}".lower()
    space.architecture(result.choices, name).save(folder / "architecture.yaml")
    report = write_search_report(folder)
    logger.info("Architecture: %s. Report: %s", folder / "architecture.yaml", report)
    classes = tuple(setup.val_images.image_set.classes)
    about = Description(network.arch, setup.preprocessing, classes)
    checkpointer = TrainingCheckpointer(network, folder, about)
    checkpointer.write("network", {"model": network.state_dict()})


def _copy_metrics(setup: SearchSetup, target: float) -> None:
    """The config, and the metrics about ``target`` under the names of a single search."""
    source, folder = setup.output_dir, setup.folder(target)
    suffix = f"@{setup.short(target)}"
    with atomic_write(folder / "config.yaml") as file:
        file.write((source / "config.yaml").read_bytes())
    with atomic_write(folder / "metrics.json") as file:
        for line in (source / "metrics.json").read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            own = record if record["target"] == target else {"iteration": record["iteration"]}
            own = {name: value for name, value in own.items() if "@" not in name}
            own |= {n.removesuffix(suffix): v for n, v in record.items() if n.endswith(suffix)}
            if len(own) > 1:
                file.write(f"{json.dumps(own)}\n".encode())
