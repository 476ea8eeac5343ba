"""The last word: short trainings of the most promising architectures, half of them in each round.

A supernet rates architectures by weights that they share; what they are worth on their own shows in
a training. Successive halving [Jamieson and Talwalkar 2016] spends most of it on the better ones.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from pathlib import Path

import torch
from torch import Tensor

from fpnas.config import CfgNode
from fpnas.modeling import SearchedNet, SuperNet
from fpnas.search.result import Finalist, SearchResult
from fpnas.search.searcher import ArchitectureSearcher
from fpnas.search.setup import SearchSetup
from fpnas.training.artifact import Description, TrainingCheckpointer, load_trained
from fpnas.training.run import train_on
from fpnas.utils import comm
from fpnas.utils.file_io import atomic_write

logger = logging.getLogger(__name__)

#: In the folder of a result: a training for each finalist.
FINALISTS = "finalists"
# Drawn for each finalist that is wanted, so that they can be spread apart.
_DRAWS = 16
# Of the most probable ones, where too few are drawn that lie within budget.
_LOOKED_AT = 20_000
# Variables in which two finalists differ at least, share of all, as far as there are such.
_APART = 0.1
# Fewer are not halved any more.
_LAST_ROUND = 3
# Rates stay as they are, so that a round goes on where the last one ended; the average is judged.
_EMA_DECAY = 0.99


def promising(searcher: ArchitectureSearcher, best: Tensor, count: int) -> Tensor:
    """``best`` [V] and up to ``count`` - 1 others within budget, the most probable and apart.

    Int64 [count, V], drawn as the searcher draws; fewer if it knows no more.
    """
    drawn = searcher.estimator.draw(searcher, _DRAWS * count)
    searcher.estimator.redraw(searcher, drawn, searcher.costs(drawn))
    looked_at = 0
    for probable, _ in searcher.distribution.descending():  # where the draws are all alike
        drawn = torch.cat([drawn, probable])
        drawn = drawn[~searcher.outside_budget(searcher.costs(drawn))].unique(dim=0)
        looked_at += len(probable)
        if len(drawn) >= _DRAWS * count or looked_at >= _LOOKED_AT:
            break
    with torch.no_grad():
        order = searcher.distribution.log_prob(drawn).argsort(descending=True, stable=True)
    others = [row for row in drawn[order] if not torch.equal(row, best)]
    apart = math.ceil(_APART * len(best))
    chosen = [best]
    for least in range(apart, 0, -1):
        for row in others:
            if len(chosen) == count:
                break
            if all(int((row != own).sum()) >= least for own in chosen):
                chosen.append(row)
    return torch.stack(chosen)


def compete(
    cfg: CfgNode,
    setup: SearchSetup,
    supernet: SuperNet,
    searcher: ArchitectureSearcher,
    result: SearchResult,
    teacher: str = "",
) -> tuple[SearchResult, SearchedNet]:
    """Train SEARCH.FINALISTS architectures within budget, and return the best. Collective.

    The first round takes SEARCH.FINALIST_EPOCHS. In every further one the better half goes on for
    as long as it has been trained. The loss on the validation half decides. They start with the
    weights of the supernet, or with SEARCH.FINALIST_WEIGHTS "fresh" with new ones.

    What is there already, in the folder ``finalists`` of the result's folder, is not done again.

    Args:
        result: what the search has found, which is one of them.
        teacher: weights of a network that they learn from, as SOLVER.DISTILL.WEIGHTS; "": none.

    Returns:
        The result with the winner in place of what was found, and with all finalists; the winner
        as it was trained.
    """
    choices = promising(searcher, result.choices, cfg.SEARCH.FINALISTS)
    if len(choices) < cfg.SEARCH.FINALISTS:
        logger.warning(
            "SEARCH.FINALISTS is %d, but the search knows %d architectures within budget",
            *(cfg.SEARCH.FINALISTS, len(choices)),
        )
    runs = [
        _Training(cfg, setup, supernet, own, result.target, number, teacher)
        for number, own in enumerate(choices)
    ]
    remaining, rounds = list(runs), 0
    while True:
        for run in remaining:
            run.reach(cfg.SEARCH.FINALIST_EPOCHS * 2**rounds, rounds)
        remaining.sort(key=lambda run: run.losses[rounds])
        if len(remaining) < _LAST_ROUND:
            break
        remaining, rounds = remaining[: (len(remaining) + 1) // 2], rounds + 1
    costs = searcher.costs(choices).tolist()
    finalists = tuple(
        Finalist(run.choices, cost, tuple(run.losses[: rounds + 1]))
        for run, cost in zip(runs, costs, strict=True)
    )
    winner = remaining[0]
    with torch.no_grad():
        log_prob = float(searcher.distribution.log_prob(winner.choices[None]))
    is_same = torch.equal(winner.choices, result.choices)
    result = dataclasses.replace(
        result,
        choices=winner.choices,
        cost=costs[runs.index(winner)],
        log_prob=log_prob,
        proven=result.proven and is_same,
        finalists=finalists,
    )
    return result, load_trained(winner.folder / "model_final.pth").model


class _Training:
    """The training of a finalist, which goes on from round to round.

    Attributes:
        choices: its architecture, int64 [V].
        losses: on the validation half, after each round so far.
    """

    def __init__(
        self,
        cfg: CfgNode,
        setup: SearchSetup,
        supernet: SuperNet,
        choices: Tensor,
        target: float,
        number: int,
        teacher: str,
    ) -> None:
        self.choices = choices
        self.folder = setup.folder(target) / FINALISTS / str(number)
        self._setup, self._supernet, self._teacher = setup, supernet, teacher
        self._number = number
        self._cfg = cfg
        self._is_fresh = cfg.SEARCH.FINALIST_WEIGHTS == "fresh"
        self._file = self.folder.with_suffix(".json")
        self.losses: list[float] = []
        if self._file.exists():
            self.losses = json.loads(self._file.read_text(encoding="utf-8"))["losses"]

    def reach(self, epochs: int, round_number: int) -> None:
        """Train up to ``epochs``, unless that was done, and note the loss."""
        if len(self.losses) > round_number:
            return
        logger.info("Finalist %d: up to epoch %d", self._number, epochs)
        own = self._config(epochs)
        halves = self._setup.train_loader.image_set, self._setup.val_loader.image_set
        scores = train_on(own, *halves, resume=True, allow_changes=True)
        self.losses.append(scores["loss"])
        if comm.is_main_process():
            with atomic_write(self._file) as file:
                file.write(json.dumps({"losses": self.losses}).encode())
        comm.synchronize()

    def _config(self, epochs: int) -> CfgNode:
        """The optimizer and the data of the search, at a constant rate."""
        own = self._cfg.clone()
        own.defrost()
        own.OUTPUT_DIR = str(self.folder)
        start = str(self._start())
        own.MODEL.ARCH, own.MODEL.WEIGHTS = (start, "") if self._is_fresh else ("", start)
        solver = own.SOLVER
        solver.EPOCHS, solver.SCHEDULE, solver.EMA_DECAY = epochs, "constant", _EMA_DECAY
        solver.LR_WARMUP_EPOCHS = min(solver.LR_WARMUP_EPOCHS, epochs / 4)
        solver.DISTILL.WEIGHTS = self._teacher
        own.TEST.PERIOD = 0
        own.freeze()
        return own

    def _start(self) -> Path:
        """The file that the training starts from: weights of the supernet, or an architecture."""
        folder, name = self.folder.parent, f"{self._number}-start"
        file = folder / f"{name}{'.yaml' if self._is_fresh else '.pth'}"
        comm.synchronize()
        if file.exists():
            return file
        network = self._setup.network(self._supernet, self.choices)
        if comm.is_main_process():
            folder.mkdir(parents=True, exist_ok=True)
            if self._is_fresh:
                network.arch.save(file)
            else:
                classes = tuple(self._setup.images.classes)
                about = Description(network.arch, self._setup.preprocessing, classes)
                checkpointer = TrainingCheckpointer(network, folder, about)
                checkpointer.write(name, {"model": network.state_dict()})
        comm.synchronize()
        return file
