"""A step of the search against its forward and backward passes run bare."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import wraps
from statistics import median
from typing import Any

import torch
from torch.nn import functional as F

from fpnas.modeling import SearchedNet, SuperNet
from fpnas.search import ArchitectureSearcher, FixedSampling
from fpnas.search.methods import SearchTrainer
from fpnas.spaces import BlockGroup, NetworkSpace, get_space
from fpnas.utils.machine import torch_threads
from speed_lib.rounds import CPU_ONE_THREAD, quartiles
from speed_lib.steps import Batch, random_batch, shared_sgd

MORE = 100  # times as many choices in the larger space


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes:
        space: name in SPACE_REGISTRY.
        samples: numbers K of architectures a step.
        rounds: of two steps for each K and each space.
        batch_size: images of a training and of a validation batch.
        input_size: their side, px.
        seed: of the sampled architectures.
    """

    space: str = "FBNetV2-F"
    samples: tuple[int, ...] = (1, 4, 14)
    rounds: int = 15
    batch_size: int = 32
    input_size: int = 128
    seed: int = 0


def measure(setting: Setting) -> dict[str, float]:
    """All figures of ``setting``, CPU time of one thread.

    For each K: ``search_step_ratio_kK_*``: the step over the bare forward and backward passes of
    its architectures, each a network of its own, without any optimizer.
    ``more_choices_ratio_kK_*``: that ratio in a space with 100 times more choices over the same in
    the space itself. ``PART_share_kK``: median share of the step that drawing (``ask``), the update
    of alpha (``tell``), binding (``bind``) and the optimizer of omega (``optimizer``) take;
    ``bookkeeping_share_kK``: all of them but the optimizer.
    """
    small = get_space(setting.space).at(input_size=setting.input_size)
    searches = {name: _Search(space, setting) for name, space in spaces(small).items()}
    figures: dict[str, float] = {}
    with torch_threads(CPU_ONE_THREAD.threads):
        for samples in setting.samples:
            figures |= _measure_samples(searches, samples, setting.rounds)
    return figures


def spaces(space: NetworkSpace) -> dict[str, NetworkSpace]:
    """``space`` and the same with 100 times more values for the expansion of every group.

    The values lie in the range of the original ones, so the networks cost the same.
    """
    groups = [_finer(group) for group in space.block_groups]
    finer = NetworkSpace(f"{space.name}-finer", space.input_size, space.stem, groups, space.head)
    return {"small": space, "large": finer}


def _finer(group: BlockGroup) -> BlockGroup:
    values = group.variables["expansion"]
    if len(values) == 1:
        return group  # expansion 1 has no weights to expand with
    finer = torch.linspace(min(values), max(values), MORE * len(values), dtype=torch.float64)
    variables = {**group.variables, "expansion": tuple(finer.tolist())}
    return replace(group, variables=variables)


class _Search:
    """A search on noise whose steps are taken one at a time and timed part by part."""

    def __init__(self, space: NetworkSpace, setting: Setting) -> None:
        self.space = space
        self.batch = random_batch(setting.batch_size, setting.input_size, space.num_classes)
        self.parts: dict[str, float] = {}
        self._choices = torch.empty(0)
        supernet = SuperNet(space).to(memory_format=torch.channels_last)
        target = space.flops(space.sample(1000, torch.Generator().manual_seed(0))).double()
        self._searcher = ArchitectureSearcher(
            space,
            space.flops,
            float(target.median()),
            distribution="joint",
            sampling=FixedSampling(1),
            seed=setting.seed,
        )
        self._trainer = SearchTrainer(
            supernet,
            shared_sgd(supernet),
            [self._searcher],
            _Endless(self.batch),
            _Endless(self.batch),
            warmup_iterations=0,
            joint_iteration=None,
            likelihood_scale=96.0,
            channels_last=True,
        )
        self._ask = self._timed("ask", self._searcher.ask)
        self._searcher.ask = lambda num_samples=None: self._choices  # drawn before, see draw()
        self._searcher.tell = self._timed("tell", self._searcher.tell)
        supernet.bind = self._timed("bind", supernet.bind)
        optimizer = self._trainer.optimizer
        optimizer.step = self._timed("optimizer", optimizer.step)
        optimizer.zero_grad = self._timed("optimizer", optimizer.zero_grad)
        self._trainer.before_train()

    def draw(self, samples: int) -> None:
        """Draw the K = ``samples`` architectures of the next step, as its first part."""
        self._searcher.sampling = FixedSampling(samples)
        self.parts.clear()
        self._choices = self._ask()

    def step(self) -> float:
        """Seconds of one step of the search on what was drawn, the drawing included."""
        start = time.process_time()
        self._trainer.before_step()
        self._trainer.run_step()
        self._trainer.after_step()
        self._trainer.iter += 1
        return time.process_time() - start + self.parts["ask"]

    def bare(self) -> float:
        """Seconds of the passes of the architectures drawn, each a network of its own."""
        networks = [SearchedNet(self.space.architecture(row)) for row in self._choices]
        for network in networks:
            network.to(memory_format=torch.channels_last)
        images, labels = self.batch
        start = time.process_time()
        for network in networks:
            F.cross_entropy(network(images), labels).backward()
        with torch.no_grad():
            for network in networks:
                F.cross_entropy(network(images), labels)
        return time.process_time() - start

    def _timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*args: Any) -> Any:
            start = time.process_time()
            result = function(*args)
            self.parts[part] = self.parts.get(part, 0.0) + time.process_time() - start
            return result

        return timed


class _Endless:
    """The same batch for ever: data costs nothing here."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def iterate(self, start_iteration: int = 0) -> Iterator[Batch]:
        while True:
            yield self._batch


def _measure_samples(searches: dict[str, _Search], samples: int, rounds: int) -> dict[str, float]:
    ratios: dict[str, list[float]] = {name: [] for name in searches}
    shares: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, search in searches.items():
            ratio, parts = _round(search, samples)
            ratios[name].append(ratio)
            if name == "small":
                for part, share in parts.items():
                    shares.setdefault(part, []).append(share)
    key = f"k{samples}"
    more = [a / b for a, b in zip(ratios["large"], ratios["small"], strict=True)]
    return {
        **quartiles(f"search_step_ratio_{key}", ratios["small"]),
        **quartiles(f"more_choices_ratio_{key}", more),
        **{f"{part}_share_{key}": median(values) for part, values in shares.items()},
    }


def _round(search: _Search, samples: int) -> tuple[float, dict[str, float]]:
    """Ratio of two steps to their bare passes, and the parts of the steps as shares.

    The runtime compiles its kernels when a shape comes up first. So the bare passes of one step
    run before it, those of the other after it: each side compiles once.
    """
    steps = bare = 0.0
    parts: dict[str, float] = {}
    for bare_first in (True, False):
        search.draw(samples)
        bare += search.bare() if bare_first else 0.0
        steps += search.step()
        bare += 0.0 if bare_first else search.bare()
        for part, seconds in search.parts.items():
            parts[part] = parts.get(part, 0.0) + seconds
    parts["bookkeeping"] = sum(seconds for part, seconds in parts.items() if part != "optimizer")
    return steps / bare, {part: seconds / steps for part, seconds in parts.items()}
