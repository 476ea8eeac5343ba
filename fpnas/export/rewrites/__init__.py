"""Exactly equivalent rewrites that make an exported graph faster in its runtime: their table."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from fpnas.config.checks import check_name
from fpnas.export.rewrites.mbconv import pad_channels, resize_gates, split_branches
from fpnas.export.rewrites.operators import plain_hswish, use_global_pools


@dataclass(frozen=True)
class Rewrite:
    """One rewrite.

    ``apply(network)`` changes a network in place whose BatchNorms have been folded. It leaves the
    outputs as they are but for float rounding, and modules that it does not know as they are.
    """

    description: str
    apply: Callable[[nn.Module], None]


# Rewrites are applied in this order: each finds what the ones before it left.
REWRITES: dict[str, Rewrite] = {
    "pad_channels": Rewrite(
        "inner channels of MBConv filled up with zeros to whole vectors of 16", pad_channels
    ),
    "split_branches": Rewrite(
        "Split-Attention as one depthwise convolution a split, without reshaped feature maps",
        split_branches,
    ),
    "global_pool": Rewrite(
        "GlobalAveragePool on a map of about 7x7 in place of ReduceMean", use_global_pools
    ),
    "resize_gates": Rewrite(
        "gates brought to the size of the map by Resize before Mul", resize_gates
    ),
    "plain_hswish": Rewrite(
        "hard-swish out of Add, Clip and Mul, which accelerators of phones take; slower on a CPU",
        plain_hswish,
    ),
}

# Stands for the rewrites that make float32 graphs faster on this CPU (benchmarks/rewrites.py).
AUTO = "auto"
# Stands for those whose graphs NNAPI and CoreML take as a whole, in ONNX Runtime's opinion.
PHONE = "phone"
_FOR_PHONES = ("split_branches", "global_pool", "plain_hswish")


def expand_rewrites(names: Iterable[str]) -> tuple[str, ...]:
    """``names`` in the order of REWRITES, each once; for AUTO and PHONE what they stand for.

    A string is one name. Raises ConfigError, which suggests the nearest name, on an unknown one.
    """
    groups = {AUTO: _helpful_here(), PHONE: _FOR_PHONES}
    chosen: set[str] = set()
    for name in [names] if isinstance(names, str) else names:
        check_name("EXPORT.REWRITES", name, (*groups, *REWRITES))
        chosen.update(groups.get(name, (name,)))
    return tuple(name for name in REWRITES if name in chosen)


def apply_rewrites(network: nn.Module, names: Iterable[str]) -> nn.Module:
    """A copy of ``network`` with the rewrites called ``names``.

    Args:
        network: in eval mode, with folded BatchNorms (see :func:`fpnas.export.fold_bn`). Stays
            as it is.
        names: as in :func:`expand_rewrites`.
    """
    rewritten = copy.deepcopy(network)
    for name in expand_rewrites(names):
        REWRITES[name].apply(rewritten)
    return rewritten


def _helpful_here() -> tuple[str, ...]:
    """Padding to 16 only where vectors hold 16 numbers: elsewhere it costs 2 to 4 %."""
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    unwanted = {"plain_hswish"} if wide else {"plain_hswish", "pad_channels"}
    return tuple(name for name in REWRITES if name not in unwanted)
