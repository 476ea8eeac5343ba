"""A step of one sampled architecture: in the supernet, alone, and in the alternatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fpnas.modeling import SearchedNet, SuperNet
from fpnas.modeling.masked_supernet import MaskedSuperNet, uniform_weights
from fpnas.spaces import NetworkSpace, get_space
from speed_lib.all_choices import AllChoicesSuperNet
from speed_lib.memory import peak_bytes, resident_growth
from speed_lib.rounds import CPU_ONE_THREAD, WALL_TWO_THREADS, Clock, interleave, quartiles, ratios
from speed_lib.steps import (
    Batch,
    Step,
    network_step,
    random_batch,
    sgd,
    shared_sgd,
    sliced_step,
)


@dataclass(frozen=True)
class Setting:
    """What is compared.

    Attributes:
        spaces: names in SPACE_REGISTRY.
        architectures: random ones of each space.
        rounds: interleaved, for each architecture and each clock.
        batch_size: images of a step.
        input_size: their side, px.
        alternative_rounds: rounds against the masked supernet.
        all_choices_batch_size: images where the all-choices supernet takes part; at the size of
            a training batch it would need tens of gigabytes.
        clocks: ways to take the time; ratios come from the first.
        seed: of the architectures.
    """

    spaces: tuple[str, ...] = ("FBNetV2-F", "FBNetV2-F++")
    architectures: int = 5
    rounds: int = 15
    batch_size: int = 32
    input_size: int = 128
    alternative_rounds: int = 5
    all_choices_batch_size: int = 4
    clocks: tuple[Clock, ...] = (CPU_ONE_THREAD, WALL_TWO_THREADS)
    seed: int = 0


def measure(setting: Setting) -> dict[str, float]:
    """All figures of ``setting``; ratios are pooled over spaces, architectures and rounds.

    ``step_ratio_*``: time of the supernet's step over the standalone network's, CPU time of one
    thread; ``step_ratio_wall2_*``: wall time of two. ``peak_memory_ratio``: of PyTorch's peak
    allocations in a step; ``resident_ratio``: of the growth of the process beyond the weights over
    steps of all architectures (both the largest of all). ``masked_*`` and ``dnas_*``: the
    alternatives over the sliced supernet, medians.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(setting.seed)
        parts = [_measure_space(get_space(name), setting) for name in setting.spaces]
    pooled = {key: [value for part in parts for value in part[key]] for key in parts[0]}
    figures: dict[str, float] = {}
    for clock in setting.clocks:
        key = "step_ratio" if clock is setting.clocks[0] else f"step_ratio_{clock.label}"
        figures |= quartiles(key, pooled[f"step_{clock.label}"])
        figures |= quartiles(f"{key}_masked", pooled[f"masked_{clock.label}"])
    figures["peak_memory_ratio"] = max(pooled["peak"])
    figures["resident_ratio"] = max(pooled["resident"])
    figures["masked_time_ratio"] = figures["step_ratio_masked_median"]
    for name in ("masked_memory", "dnas_memory"):
        figures |= quartiles(f"{name}_ratio", pooled[name])
        figures[f"{name}_ratio"] = figures[f"{name}_ratio_median"]
    for name, part in zip(setting.spaces, parts, strict=True):
        first = part[f"step_{setting.clocks[0].label}"]
        figures |= quartiles(f"step_ratio_{name}", first)
    return figures


def _measure_space(space: NetworkSpace, setting: Setting) -> dict[str, list[float]]:
    choices = space.sample(setting.architectures, torch.Generator().manual_seed(setting.seed))
    batch = random_batch(setting.batch_size, setting.input_size, space.num_classes)
    supernet = SuperNet(space).to(memory_format=torch.channels_last)
    masked = MaskedSuperNet(space).to(memory_format=torch.channels_last)
    optimizer, masked_optimizer = shared_sgd(supernet), sgd(list(masked.parameters()))
    found: dict[str, list[float]] = {"peak": [], "masked_memory": []}
    for row in choices:
        sliced = sliced_step(supernet, optimizer, row, batch)
        steps = {"sliced": sliced, "alone": network_step(supernet.extract(row), batch)}
        for clock in setting.clocks:
            times = interleave(steps, setting.rounds, clock, warmup=2)
            found.setdefault(f"step_{clock.label}", []).extend(ratios(times, "sliced", "alone"))
            both = {"sliced": sliced, "masked": _masked_step(masked, masked_optimizer, row, batch)}
            times = interleave(both, setting.alternative_rounds, clock)
            found.setdefault(f"masked_{clock.label}", []).extend(ratios(times, "masked", "sliced"))
        peak = {name: peak_bytes(step) for name, step in (steps | both).items()}
        found["peak"].append(peak["sliced"] / peak["alone"])
        found["masked_memory"].append(peak["masked"] / peak["sliced"])
    del masked, masked_optimizer, both
    found["dnas_memory"] = _all_choices_memory(space, supernet, choices, setting)
    alone, sliced = (
        resident_growth(prepare, space.name, choices, setting.batch_size, setting.input_size)
        for prepare in (prepare_alone, prepare_sliced)
    )
    found["resident"] = [sliced / alone]
    return found


def _masked_step(
    masked: MaskedSuperNet, optimizer: torch.optim.SGD, choices: Tensor, batch: Batch
) -> Step:
    """Full-size tensors whose unused channels are masked; every weight gets a gradient."""
    images, labels = batch

    def step() -> None:
        F.cross_entropy(masked(images, choices), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _all_choices_memory(
    space: NetworkSpace, supernet: SuperNet, choices: Tensor, setting: Setting
) -> list[float]:
    """Peak of a step in which all choices take part, over that of each sliced architecture."""
    images, labels = batch = random_batch(
        setting.all_choices_batch_size, setting.input_size, space.num_classes
    )
    network = AllChoicesSuperNet(space).to(memory_format=torch.channels_last)
    weights = uniform_weights(space)
    optimizer = shared_sgd(supernet)

    def all_choices() -> None:
        F.cross_entropy(network(images, weights), labels).backward()
        network.zero_grad()

    steps = [all_choices, *(sliced_step(supernet, optimizer, row, batch) for row in choices)]
    for step in steps:
        step()  # buffers that stay, such as momenta, are there before the measured step
    everything, *sliced = map(peak_bytes, steps)
    return [everything / peak for peak in sliced]


def prepare_alone(
    space_name: str, choices: Tensor, batch_size: int, input_size: int
) -> Callable[[], None]:
    """Two steps of each architecture by itself, on networks that are there before."""
    space = get_space(space_name)
    batch = random_batch(batch_size, input_size, space.num_classes)
    networks = [SearchedNet(space.architecture(row)) for row in choices]
    torch.set_num_threads(1)

    def run() -> None:
        for network in networks:
            step = network_step(network, batch)
            step()
            step()

    return run


def prepare_sliced(
    space_name: str, choices: Tensor, batch_size: int, input_size: int
) -> Callable[[], None]:
    """Two steps of each architecture on a supernet that is there before."""
    space = get_space(space_name)
    batch = random_batch(batch_size, input_size, space.num_classes)
    supernet = SuperNet(space).to(memory_format=torch.channels_last)
    optimizer = shared_sgd(supernet)
    torch.set_num_threads(1)

    def run() -> None:
        for row in choices:
            step = sliced_step(supernet, optimizer, row, batch)
            step()
            step()

    return run
