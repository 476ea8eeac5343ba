"""Supernets of the study: how they are trained, and how they rate an architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fpnas.config import CfgNode
from fpnas.data import TestLoader, TrainLoader, stratified_split
from fpnas.engine import TrainerBase, check_finite
from fpnas.modeling import SearchedNet, SuperNet, recalibrate_bn
from fpnas.solver import SharedSGD, restore_optimizer
from fpnas.utils.checkpoint import load_weights
from fpnas.utils.rng import derive_seed, generator_for
from rank_lib.loop import train
from rank_lib.study import Candidate, Study, take

Batch = tuple[Tensor, Tensor]  # images [N, 3, S, S], labels [N]

_FORWARD_BACKWARD = 3  # a backward pass costs about two forward passes
_MEASURED = 1000  # architectures whose mean FLOPs stand for those of all steps


@dataclass(frozen=True)
class Setting:
    """A way to train a supernet; every architecture of a step takes the same batch.

    Attributes:
        sampling: "budget": uniform among the architectures within budget; "space": among all.
        samples: random architectures of a step.
        sandwich: the largest and the smallest architecture join every step, and all but the largest
            learn its output in place of the labels (BigNAS).
        length: FLOPs spent, in units of those of the setting "base".
        opts: config keys.
    """

    sampling: str = "budget"
    samples: int = 1
    sandwich: bool = False
    length: float = 1.0
    opts: Mapping[str, Any] = field(default_factory=dict)


SETTINGS: dict[str, Setting] = {
    "base": Setting(),
    "paper-sharing": Setting(opts={"SEARCH.SHARING": "paper"}),
    "share-all": Setting(opts={"SEARCH.SHARING": "all"}),
    "whole-space": Setting(sampling="space"),
    # Its largest architecture makes a step several times as dear as that of "base".
    "sandwich": Setting(sandwich=True, length=2.0),
    "low-lr": Setting(opts={"SOLVER.LR": 0.1}),
    "high-lr": Setting(opts={"SOLVER.LR": 0.4, "SOLVER.LR_END": 0.075}),
    "four-samples": Setting(samples=4),
    "short": Setting(length=1 / 3),
    "long": Setting(length=3.0),
}


class StudiedSupernet:
    """The supernet of one setting and seed: trained once, then rating candidates.

    Args:
        study: its data and space.
        name: key of SETTINGS.
        seed: of weights, order of the images and sampled architectures; the validation images are
            the same for all seeds.
        rating_images: validation images that rate a candidate, at most.
    """

    def __init__(self, study: Study, name: str, seed: int, rating_images: int) -> None:
        self._study, self._seed = study, seed
        self._setting = SETTINGS[name]
        self.folder = study.folder / "supernet" / f"{name}-{seed}"
        self._cfg = _with_opts(study.cfg, self._setting.opts)
        images, cfg = study.train_images, self._cfg
        train_half, val_half = stratified_split(images.labels, cfg.SEARCH.TRAIN_FRACTION, cfg.SEED)
        self._loader = TrainLoader(images.subset(train_half), cfg, cfg.SOLVER.BATCH_SIZE, seed)
        # In a random order: batch statistics must not be those of a few classes.
        order = torch.randperm(len(val_half), generator=generator_for(cfg.SEED, "rating"))
        val_half = val_half[order[:rating_images]]
        self._judges = TestLoader(images.subset(val_half), cfg, cfg.TEST.BATCH_SIZE)
        torch.manual_seed(derive_seed(seed, "weights"))
        search = cfg.SEARCH
        supernet = SuperNet(
            study.space, study.space.num_classes, search.SHARING, search.ZERO_INIT_RESIDUAL
        )
        self._supernet = supernet.to(memory_format=torch.channels_last)

    def train(self) -> dict[str, Any]:
        """Train it. Returns "steps", "tflops" spent and "cpu_seconds"."""
        solver = self._cfg.SOLVER
        optimizer = SharedSGD.from_cfg(self._cfg, self._supernet.store)
        draw = partial(sampled, self._study, self._setting, self._seed)
        trainer = SampledTrainer(
            self._supernet, optimizer, self._loader, draw, distil=self._setting.sandwich
        )
        step_flops = self._mean_flops(self._setting)
        epochs = solver.EPOCHS * self._setting.length * self._mean_flops(Setting()) / step_flops
        steps = max(1, round(epochs * len(self._loader)))
        cpu_seconds = train(
            trainer, self._supernet, optimizer, self._cfg, self.folder, len(self._loader), steps
        )
        flops = steps * step_flops * solver.BATCH_SIZE * _FORWARD_BACKWARD
        return {"steps": steps, "tflops": flops / 1e12, "cpu_seconds": cpu_seconds}

    def rater(self) -> Callable[[Candidate], dict[str, Any]]:
        """How the trained supernet rates a candidate, see :func:`rate`."""
        load_weights(self._supernet, self.folder / "model_final.pth")
        calibration = take_images(self._loader.iterate(), self._cfg.SEARCH.BN_BATCHES)
        batches = list(self._judges)

        def rater(candidate: Candidate) -> dict[str, Any]:
            network = self._supernet.extract(candidate.choices)
            return {"choices": candidate.choices.tolist(), **rate(network, batches, calibration)}

        return rater

    def _mean_flops(self, setting: Setting) -> float:
        """Multiply-adds of one image in all architectures of a step, forward."""
        many = replace(setting, samples=_MEASURED, sandwich=False)
        flops = self._study.space.flops(sampled(self._study, many, self._seed, 0))
        mean = float(flops.double().mean()) * setting.samples
        if setting.sandwich:
            mean += int(self._study.space.flops(self._study.extremes).sum())
        return mean


class SampledTrainer(TrainerBase):
    """Trains a supernet on sampled architectures, without any search.

    Args:
        supernet: the weights, in channels_last.
        optimizer: of them.
        loader: step i takes batch i.
        draw: the architectures [K, V] of step i.
        distil: all but the first learn the first one's output; otherwise all learn the labels.
    """

    def __init__(
        self,
        supernet: SuperNet,
        optimizer: SharedSGD,
        loader: TrainLoader,
        draw: Callable[[int], Tensor],
        distil: bool,
    ) -> None:
        super().__init__()
        self.supernet = supernet
        self.optimizer = optimizer
        self._loader, self._draw, self._distil = loader, draw, distil

    def before_train(self) -> None:
        self._batches = self._loader.iterate(self.start_iter)
        super().before_train()

    def after_train(self) -> None:
        del self._batches
        super().after_train()

    def run_step(self) -> None:
        """A step of the mean gradient of the drawn architectures."""
        images, target = next(self._batches)
        images = images.contiguous(memory_format=torch.channels_last)
        choices = self._draw(self.iter)
        losses = []
        for number, row in enumerate(choices):
            logits = self.supernet(images, row)
            loss = F.cross_entropy(logits, target)
            (loss / len(choices)).backward()
            losses.append(loss.detach())
            if self._distil and number == 0:
                target = logits.detach().softmax(1)
        mean_loss = torch.stack(losses).mean()
        check_finite(mean_loss, self.iter)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.storage.put_scalar("loss", mean_loss)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        restore_optimizer(self.optimizer, state["optimizer"])


def sampled(study: Study, setting: Setting, seed: int, iteration: int) -> Tensor:
    """The architectures [K, V] of a step, a pure function of the seed and the iteration."""
    limit = study.cfg.SEARCH.TARGET if setting.sampling == "budget" else float("inf")
    generator = generator_for(seed, "sampled", iteration)
    choices = take(study.uniform(0, limit, generator), setting.samples)
    if not setting.sandwich:
        return choices
    smallest, largest = study.extremes
    return torch.stack([largest, *choices, smallest])


@torch.no_grad()
def rate(
    network: SearchedNet, batches: list[Batch], calibration: list[Tensor]
) -> dict[str, dict[str, list[float]]]:
    """Scores on ``batches`` by batch statistics and with BatchNorm recalibrated on ``calibration``.

    Returns for "batch" and for "recalibrated" the mean "loss" and the "accuracy" (percent) of every
    batch, from which the noise of fewer images follows.
    """
    by_batch = _scores(network.train(), batches)
    recalibrate_bn(network, calibration)
    return {"batch": by_batch, "recalibrated": _scores(network.eval(), batches)}


def _scores(network: SearchedNet, batches: list[Batch]) -> dict[str, list[float]]:
    scores: dict[str, list[float]] = {"loss": [], "accuracy": []}
    for images, labels in batches:
        logits = network(images.contiguous(memory_format=torch.channels_last))
        scores["loss"].append(float(F.cross_entropy(logits, labels)))
        scores["accuracy"].append(100 * float((logits.argmax(1) == labels).float().mean()))
    return scores


def take_images(batches: Iterator[Batch], count: int) -> list[Tensor]:
    """The images of the next ``count`` batches."""
    return [next(batches)[0] for _ in range(count)]


def _with_opts(cfg: CfgNode, opts: Mapping[str, Any]) -> CfgNode:
    cfg = cfg.clone()
    cfg.merge_from_list([text for key, value in opts.items() for text in (key, str(value))])
    return cfg
