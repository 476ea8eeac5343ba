"""Training throughput of an architecture, ours against timm's implementation of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fpnas.archs import Architecture, get_arch
from fpnas.errors import UserError
from fpnas.modeling import SearchedNet
from speed_lib.architectures import variant
from speed_lib.memory import peak_bytes
from speed_lib.peers import same_network, timm_twin
from speed_lib.rounds import CPU_ONE_THREAD, WALL_TWO_THREADS, Clock, interleave, quartiles, ratios
from speed_lib.steps import network_step, random_batch

# name in the keys -> (activation, splits)
VARIANTS = {"relu": ("relu", 0), "swish_se": ("swish", 1), "hswish_se": ("hswish", 1)}


@dataclass(frozen=True)
class Setting:
    """What is compared.

    Attributes:
        arch: name of the architecture whose activation and attention are varied.
        rounds: interleaved, for each variant and each clock.
        batch_size: images of a step.
        input_size: their side, px.
        clocks: ways to take the time; ``train_ratio_*`` comes from the first.
    """

    arch: str = "mnasnet_100"
    rounds: int = 15
    batch_size: int = 32
    input_size: int = 128
    clocks: tuple[Clock, ...] = (CPU_ONE_THREAD, WALL_TWO_THREADS)


def measure(setting: Setting) -> dict[str, float]:
    """All figures of ``setting``; both networks train in channels_last with the same SGD and loss.

    ``train_ratio_VARIANT_*``: our images per second over timm's; ``train_ms_VARIANT``: our step;
    ``train_memory_ratio_VARIANT``: our peak memory over timm's.
    """
    figures: dict[str, float] = {}
    for name, (act, splits) in VARIANTS.items():
        arch = variant(get_arch(setting.arch), act, splits)
        figures |= _measure_arch(name, arch, setting)
    return figures


def _measure_arch(name: str, arch: Architecture, setting: Setting) -> dict[str, float]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ours, twin = SearchedNet(arch), timm_twin(arch)
        if not same_network(ours, twin, setting.input_size):
            raise UserError(f"timm's twin of '{arch.name}' ({name}) is another network.")
    batch = random_batch(setting.batch_size, setting.input_size, arch.num_classes)
    steps = {"ours": network_step(ours, batch), "timm": network_step(twin, batch)}
    figures: dict[str, float] = {}
    for clock in setting.clocks:
        times = interleave(steps, setting.rounds, clock, warmup=2)
        first = clock is setting.clocks[0]
        key = f"train_ratio_{name}" if first else f"train_ratio_{clock.label}_{name}"
        figures |= quartiles(key, ratios(times, "timm", "ours"))
        if first:
            figures[f"train_ms_{name}"] = 1e3 * quartiles("", times["ours"])["_median"]
    peak = {key: peak_bytes(step) for key, step in steps.items()}
    figures[f"train_memory_ratio_{name}"] = peak["ours"] / peak["timm"]
    return figures
